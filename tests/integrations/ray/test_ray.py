"""A real Ray of two nodes on this machine: every row is answered once, though a node dies."""

from __future__ import annotations

import json
import os
import re
import threading

import pytest

# Ray reports to its makers unless told not to.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
pytest.importorskip("ray")
pytest.importorskip("ray.data")

import ray
from ray.cluster_utils import Cluster

from fastspan import InputError, QuestionAnswerer
from fastspan.adapters.ray_data import answer_dataset
from fastspan.bulk.columns import Columns
from fastspan.bulk.engines import Work
from fastspan.bulk.ray_engine import RayActors
from fastspan.bulk.run import FileJob, answer_file
from support.paths import EXPORTED_MINILM, ROOT

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.skipif(not EXPORTED_MINILM.exists(), reason="needs the exported bundle"),
]

STORE = 100 * 1024 * 1024
LOAD = {"variant": "fp32", "provider": "cpu"}
ROWS = 1500


@pytest.fixture
def cluster():
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": STORE, "include_dashboard": False},
    )
    second = made.add_node(num_cpus=2, object_store_memory=STORE)
    made.wait_for_nodes()
    paths = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    ray.init(address=made.address, log_to_driver=False, runtime_env={"env_vars": paths})
    yield made, second
    ray.shutdown()
    made.shutdown()


def rows(count: int) -> list[dict[str, object]]:
    return [
        {
            "number": n,
            "question": "" if n % 100 == 99 else "Who led the raiders?",
            "context": f"Text {n}. The Normans descended from Norse raiders who, under their leader Rollo, "
            "swore fealty to King Charles III.",
        }
        for n in range(count)
    ]


def test_every_row_of_a_dataset_is_answered_once_though_a_node_dies(cluster):
    made, second = cluster
    dataset = ray.data.from_items(rows(ROWS), override_num_blocks=30)
    answered = answer_dataset(dataset, str(EXPORTED_MINILM), workers=2, threads=1, load=LOAD)
    seen: list[dict[str, object]] = []
    for row in answered.iter_rows():
        seen.append(row)
        if len(seen) == 1:
            made.remove_node(second, allow_graceful=False)
    assert sorted(row["number"] for row in seen) == list(range(ROWS))
    assert {row["number"] for row in seen if row["fault"]} == set(range(99, ROWS, 100))
    with QuestionAnswerer.load(EXPORTED_MINILM, **LOAD) as qa:
        for row in (row for row in seen[:20] if not row["fault"]):
            expected = qa.answer(row["question"], row["context"])
            assert row["answer"] == (expected.answer and expected.answer.text)
            assert row["null_score"] == pytest.approx(expected.null_score, abs=1e-3)


def test_a_file_is_answered_once_and_in_order_though_a_node_dies(cluster, tmp_path):
    made, second = cluster
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows(ROWS)), encoding="utf-8")
    job = FileJob(source=source, out=out, rejects=tmp_path / "rejects.jsonl", columns=Columns())
    killed = threading.Event()

    class Watcher:
        def at(self, place, rejected):
            if not killed.is_set():
                killed.set()
                made.remove_node(second, allow_graceful=False)

    work = Work(bundle=str(EXPORTED_MINILM), load={**LOAD, "threads": 1})
    counts = answer_file(job, lambda: RayActors(work, 2, 1), lambda size, place: Watcher())
    assert killed.is_set()
    assert (counts.answered, counts.rejected) == (ROWS - ROWS // 100, ROWS // 100)
    found = [json.loads(line)["number"] for line in out.read_text(encoding="utf-8").splitlines()]
    assert found == [n for n in range(ROWS) if n % 100 != 99]


def test_the_example_of_the_page_runs(cluster, capsys):
    (example,) = re.findall(
        r"^```python\n(import ray\n.*?)^```",
        (ROOT / "docs" / "scale.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    exec(example.replace("models/exported/minilm-l6-squad2", str(EXPORTED_MINILM)), {})
    assert capsys.readouterr().out.splitlines()[-1] == "Rollo"


def test_what_cannot_be_used_is_told_before_anything_runs():
    with pytest.raises(InputError, match=r"must be a ray.data.Dataset, not list"):
        answer_dataset([], "bundle")
