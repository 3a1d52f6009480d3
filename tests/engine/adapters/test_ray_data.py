"""Without Ray, what needs it says which extra brings it; the actor's work on a table needs pyarrow alone."""

from __future__ import annotations

import pytest

from fastspan import InputError, MissingDependency
from fastspan.adapters import ray_data
from fastspan.adapters.ray_data import FAULT, answer_dataset
from fastspan.bulk.columns import Columns
from fastspan.bulk.engines import Work
from fastspan.cli.main import main
from support.packages import hide


def test_without_ray_the_extra_is_named(tmp_path, tiny_bundle, monkeypatch, capsys):
    hide(monkeypatch, "ray")
    with pytest.raises(MissingDependency, match=r"fastspan\[ray\]"):
        answer_dataset(object(), "bundle")
    (tmp_path / "in.jsonl").write_text('{"question": "who?", "context": "rollo"}\n')
    words = ["bulk", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--engine", "ray"]
    assert main([*words, "--variant", "fp32", "--bundle", str(tiny_bundle)]) == 1
    assert "fastspan[ray]" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.fixture
def answering(tiny_bundle):
    pytest.importorskip("pyarrow")
    work = Work(bundle=str(tiny_bundle), load={"variant": "fp32", "threads": 1})
    return ray_data._Answering(work, Columns(prefix="qa_"))


def test_a_batch_keeps_its_rows_and_says_why_one_has_no_answer(answering):
    arrow = pytest.importorskip("pyarrow")
    rows = [
        {"question": "who built it?", "context": "rollo built it", "n": 1},
        {"question": "", "context": "x", "n": 2},
        {"question": None, "context": "x", "n": 3},
    ]
    made = answering(arrow.Table.from_pylist(rows)).to_pylist()
    assert [row["n"] for row in made] == [1, 2, 3]
    assert [row[f"qa_{FAULT}"] for row in made] == [
        None,
        "question is empty; ask something.",
        "'question' is null, not text",
    ]
    assert made[0]["qa_null_score"] is not None
    assert made[1]["qa_null_score"] is None


def test_an_empty_batch_gets_the_same_columns(answering):
    arrow = pytest.importorskip("pyarrow")
    schema = arrow.schema([("question", arrow.string()), ("context", arrow.string())])
    made = answering(arrow.Table.from_pylist([], schema))
    assert made.num_rows == 0
    assert f"qa_{FAULT}" in made.column_names


def test_columns_that_cannot_be_used_are_named(answering):
    arrow = pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="lacks the column 'context'"):
        answering(arrow.table({"question": ["a"]}))
    with pytest.raises(InputError, match="has a column 'qa_answer' already"):
        answering(arrow.table({"question": ["a"], "context": ["b"], "qa_answer": ["c"]}))
