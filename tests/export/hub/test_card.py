"""The card of a repository says what the bundle's own records say, and nothing else."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import fastspan
from fastspan import BundleError
from fastspan.bundle.beside.evaluations import EVALUATIONS, Evaluation, record_evaluation
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Source
from fastspan.export.hub.card import hub_card
from fastspan.export.publishing.bundle_writer import update_manifest, write_bundle

huggingface_hub = pytest.importorskip("huggingface_hub")

ID = "owner/tiny-qa"


@pytest.fixture
def whole(tiny_bundle: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "whole"
    shutil.copytree(tiny_bundle, folder)
    return folder


def measured(bundle: Bundle, variant: str = "int8", **others: object) -> Evaluation:
    graph = bundle.manifest.variants[variant].graphs[0]
    figures = {
        "variant": variant,
        "graph": graph.file,
        "provider": "CPUExecutionProvider",
        "sha256": {path: bundle.manifest.files[path].sha256 for path in (graph.file, *graph.data)},
        "data": "squad_v2-validation",
        "hub_data": "squad_v2:validation",
        "data_sha256": "a" * 64,
        "questions": 11873,
        "exact": 61.25,
        "f1": 64.5,
        "no_answer_threshold": -1.5,
        "max_answer_length": 30,
        "created_with": "0.1.0",
    }
    return Evaluation(**{**figures, **others})  # type: ignore[arg-type]


def card(folder: Path) -> tuple[object, str, list[str]]:
    """What programs read of the card, its text, and what it lacks."""
    text, notes = hub_card(Bundle.open(folder), ID)
    read = huggingface_hub.ModelCard(text)
    return read.data, read.text, notes


def with_header(folder: Path, header: str) -> None:
    """Let the bundle be one whose export kept this header of the checkpoint's card."""
    own = (folder / "README.md").read_text()
    exported = f"---\n{header}\n---\n{own.split('---', 2)[2]}"
    manifest = Bundle.open(folder).manifest
    with write_bundle(folder) as draft:
        for path in manifest.files:
            place = draft.folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((folder / path).read_bytes())
        (draft.folder / "README.md").write_text(exported)
        draft.commit(manifest)


def test_it_names_library_task_and_how_to_load_it(whole: Path) -> None:
    data, text, notes = card(whole)
    assert (data.library_name, data.pipeline_tag) == ("fastspan", "question-answering")  # type: ignore[attr-defined]
    assert f'QuestionAnswerer.load("{ID}")' in text
    assert "FOLDER" not in text
    assert f"fastspan[cpu,hub]>={fastspan.__version__}" in text
    assert 'dtype: "fp32"' in text
    assert [note.split()[3] for note in notes] == ["no", "no", "no"]


def test_what_is_not_known_is_not_written(whole: Path) -> None:
    data, text, _ = card(whole)
    assert not {"license", "base_model", "model-index", "datasets"} & set(data.to_dict())  # type: ignore[attr-defined]
    assert "Scores" not in text


def test_scores_stand_in_model_index_and_in_a_table(whole: Path) -> None:
    bundle = Bundle.open(whole)
    record_evaluation(bundle, measured(bundle))
    record_evaluation(bundle, measured(bundle, "fp32", exact=62.0, data="mine", hub_data=None))
    data, text, notes = card(whole)
    index = data.to_dict()["model-index"]  # type: ignore[attr-defined]
    assert index[0]["name"] == "tiny-qa"
    found = {
        (metric["name"], result["dataset"]["type"], result["dataset"].get("split")): metric["value"]
        for result in index[0]["results"]
        for metric in result["metrics"]
    }
    assert found == {
        ("Exact match (int8)", "squad_v2", "validation"): 61.25,
        ("F1 (int8)", "squad_v2", "validation"): 64.5,
        ("Exact match (fp32)", "mine", None): 62.0,
        ("F1 (fp32)", "mine", None): 64.5,
    }
    assert "| int8 | squad_v2-validation | 11,873 | 61.25 | 64.50 | -1.5 |" in text
    assert not [note for note in notes if "scores" in note]


def test_scores_of_files_that_the_bundle_does_not_hold_are_left_out(whole: Path) -> None:
    bundle = Bundle.open(whole)
    record = measured(bundle)
    record_evaluation(bundle, replace(record, sha256={**record.sha256, record.graph: "b" * 64}))
    assert "model-index" not in card(whole)[0].to_dict()  # type: ignore[attr-defined]


def test_the_checkpoints_own_figures_are_not_those_of_its_graphs(whole: Path) -> None:
    with_header(
        whole,
        "license: cc-by-4.0\nlanguage: en\ndatasets: [squad_v2]\nbase_model: some/encoder\nmodel-index:\n"
        "- name: theirs\n  results:\n  - task: {type: question-answering}\n    dataset: {name: x, type: x}\n"
        "    metrics: [{type: f1, value: 99.0}]",
    )
    found = card(whole)[0].to_dict()  # type: ignore[attr-defined]
    assert (found["license"], found["language"], found["datasets"]) == ("cc-by-4.0", "en", ["squad_v2"])
    assert found["base_model"] == "some/encoder"
    assert "model-index" not in found


def test_a_checkpoint_of_the_hub_is_the_base_model(whole: Path) -> None:
    manifest = Bundle.open(whole).manifest
    source = Source(id="deepset/some-squad2", revision="c" * 40, sha256={}, format="safetensors")
    update_manifest(whole, replace(manifest, source=source))
    found = card(whole)[0].to_dict()  # type: ignore[attr-defined]
    assert (found["base_model"], found["base_model_relation"]) == ("deepset/some-squad2", "quantized")


def test_a_card_that_was_edited_keeps_its_text(whole: Path) -> None:
    (whole / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n\nAll about it.\n")
    data, text, _ = card(whole)
    assert text.strip() == "# Mine\n\nAll about it."
    assert data.to_dict()["license"] == "mit"  # type: ignore[attr-defined]
    assert data.to_dict()["library_name"] == "fastspan"  # type: ignore[attr-defined]


def test_a_missing_card_is_made(whole: Path) -> None:
    (whole / "README.md").unlink()
    assert f'QuestionAnswerer.load("{ID}")' in card(whole)[1]


@pytest.mark.parametrize("header", ["a: [", "- one\n- two"])
def test_a_header_that_is_no_yaml_is_told(whole: Path, header: str) -> None:
    (whole / "README.md").write_text(f"---\n{header}\n---\n# Mine\n")
    with pytest.raises(BundleError, match=r"README.md begins with YAML that cannot be read"):
        hub_card(Bundle.open(whole), ID)


def test_its_python_runs(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = card(whole)[1]
    example = next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "fastspan" in code)
    exec(example.replace(ID, str(whole)), {})
    assert "Prediction(" in capsys.readouterr().out


def test_records_lie_beside_the_manifest_and_change_nothing_else(whole: Path) -> None:
    bundle = Bundle.open(whole)
    before = bundle.digest
    record_evaluation(bundle, measured(bundle))
    assert (whole / EVALUATIONS).is_file()
    assert Bundle.open(whole).digest == before
