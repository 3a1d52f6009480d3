"""Scores that are kept beside a bundle: of the files that it holds, the newest of each kind."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fastspan import BundleError
from fastspan.bundle.beside.evaluations import (
    EVALUATIONS,
    Evaluation,
    read_evaluations,
    record_evaluation,
    refuse_unwritable,
)
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import MANIFEST
from fastspan.cli.main import main
from fastspan.export.publishing.slim import slim


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    folder = tmp_path / "whole"
    shutil.copytree(tiny_bundle, folder)
    return Bundle.open(folder)


def measured(bundle: Bundle, variant: str = "fp32") -> Evaluation:
    graph = bundle.manifest.variants[variant].graphs[0]
    return Evaluation(
        variant=variant,  # type: ignore[arg-type]
        graph=graph.file,
        provider="CPUExecutionProvider",
        sha256={path: bundle.manifest.files[path].sha256 for path in (graph.file, *graph.data)},
        data="mine",
        hub_data=None,
        data_sha256="a" * 64,
        questions=10,
        exact=50.0,
        f1=60.0,
        no_answer_threshold=0.0,
        max_answer_length=30,
        created_with="0.1.0",
    )


def test_a_newer_figure_takes_the_place_of_an_older_one(bundle: Bundle) -> None:
    assert read_evaluations(bundle) == ()
    first, other = measured(bundle), measured(bundle, "int8")
    for each in (first, other, replace(first, f1=61.0)):
        record_evaluation(bundle, each)
    assert read_evaluations(bundle) == (other, replace(first, f1=61.0))


def test_a_slim_bundle_has_those_of_what_it_keeps(bundle: Bundle, tmp_path: Path) -> None:
    for variant in ("fp32", "int8"):
        record_evaluation(bundle, measured(bundle, variant))
    small = slim(bundle.folder, tmp_path / "small", ["int8"])
    assert [each.variant for each in read_evaluations(small)] == ["int8"]
    assert EVALUATIONS not in small.manifest.files
    # A bundle with scores beside it may be replaced as any other.
    slim(bundle.folder, tmp_path / "small", ["fp32"])


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"evaluations": [{}]}', b'{"evaluations": 3}', b"\xff", b" " * (1 << 21)]
)
def test_a_damaged_record_is_told_by_its_file(bundle: Bundle, content: bytes) -> None:
    (bundle.folder / EVALUATIONS).write_bytes(content)
    with pytest.raises(BundleError, match=r"evaluations.json .*remove it"):
        read_evaluations(bundle)


def test_impossible_scores_are_refused(bundle: Bundle) -> None:
    record_evaluation(bundle, measured(bundle))
    file = bundle.folder / EVALUATIONS
    found = json.loads(file.read_text())
    for key, value in (("f1", 101.0), ("questions", 0), ("variant", "fp64"), ("graph", "other.onnx")):
        changed = {"evaluations": [{**found["evaluations"][0], key: value}]}
        file.write_text(json.dumps(changed))
        with pytest.raises(BundleError, match="no record of evaluations"):
            read_evaluations(bundle)


def test_the_hubs_cache_is_not_written_to(bundle: Bundle, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--owner--name" / "snapshots" / ("a" * 40)
    shutil.copytree(bundle.folder, snapshot)
    with pytest.raises(BundleError, match=r"part of the hub's cache"):
        refuse_unwritable(Bundle.open(snapshot))


class TestCommand:
    QUESTIONS = (
        {"id": "1", "question": "who built the tower", "context": "the norse built the tower", "answers": []},
    )

    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        file = tmp_path / "mine.jsonl"
        file.write_text("\n".join(json.dumps(each) for each in self.QUESTIONS))
        return file

    def test_eval_records_what_ran_and_how(
        self, bundle: Bundle, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["eval", str(bundle.folder), "--data", str(data), "--variant", "fp32", "--json"]
        before = (bundle.folder / MANIFEST).read_bytes()
        assert main(words) == 0
        assert not (bundle.folder / EVALUATIONS).exists()
        capsys.readouterr()
        assert main([*words, "--record", "--no-answer-threshold", "1.5"]) == 0
        shown = json.loads(capsys.readouterr().out)
        (kept,) = read_evaluations(bundle)
        assert (kept.variant, kept.data, kept.hub_data, kept.questions) == ("fp32", "mine", None, 1)
        assert (kept.exact, kept.f1) == (shown["exact"], shown["f1"])
        assert (kept.no_answer_threshold, kept.max_answer_length) == (1.5, 30)
        assert kept.graph == shown["engine"]["graph"]
        assert (bundle.folder / MANIFEST).read_bytes() == before

    def test_a_threshold_that_is_not_finite_is_not_recorded(
        self, bundle: Bundle, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["eval", str(bundle.folder), "--data", str(data), "--record", "--no-answer-threshold", "inf"]
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert "finite threshold" in capsys.readouterr().err
