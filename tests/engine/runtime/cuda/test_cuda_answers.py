"""From text to answer on a packed graph, with a stand-in for onnxruntime and a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastspan import QuestionAnswerer
from support.stand_ins.fake_runtime import CPU, CUDA, FakeRuntime, take_the_place_of_onnxruntime

QUESTION = "who built the tower"
PAIRS = [(QUESTION, "the norse built the tower " * (1 + number % 90)) for number in range(200)]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    return take_the_place_of_onnxruntime(monkeypatch)


def test_auto_takes_the_packed_half_precision_graph(gpu: FakeRuntime, tiny_half_bundle: Path) -> None:
    with QuestionAnswerer.load(tiny_half_bundle) as qa:
        info = qa.info()
        assert (info.variant, info.providers) == ("fp16", (CUDA, CPU))
        assert info.graph == "onnx/model_fp16_packed.onnx"
        gpu.calls.clear()
        qa.answer(*PAIRS[0])
        assert [kind for kind, _, _ in gpu.calls] == ["bound"]


def test_answers_are_the_same_alone_streamed_and_overlapping(
    gpu: FakeRuntime, tiny_half_bundle: Path
) -> None:
    with QuestionAnswerer.load(tiny_half_bundle) as qa:
        alone = [qa.answer(*pair) for pair in PAIRS]
        assert list(qa.answer_many(PAIRS)) == alone
    gpu.calls.clear()
    with QuestionAnswerer.load(tiny_half_bundle, optimize_for="throughput", token_budget=4000) as qa:
        assert list(qa.answer_many(PAIRS)) == alone
        assert qa.info().out_of_memory_retries == 0
    # No padding and full batches: the tokens of all windows, in about as few runs as the budget allows.
    sizes = [shapes["input_ids"][0] for _, _, shapes in gpu.calls]
    assert max(sizes) <= 4000
    assert len(sizes) <= sum(sizes) / 4000 * 1.5 + 1
    assert len(gpu.threads) == 2  # one GPU thread for each answerer


def test_a_profile_of_the_cpu_does_not_reach_the_gpu(gpu: FakeRuntime, tiny_half_bundle: Path) -> None:
    with QuestionAnswerer.load(tiny_half_bundle, gpu_memory_limit=1 << 30) as qa:
        assert qa.info().profile.startswith("none")
    ((_, options),) = gpu.providers
    assert options["gpu_mem_limit"] == str(1 << 30)
