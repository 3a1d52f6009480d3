"""The session alone: logits, deadlines in mid-run, and memory."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
import pytest

from fastspan import AnswerOptions, InferenceError, QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import Graph
from fastspan.loading import LoadedBundle, load_bundle
from fastspan.options import LoadOptions
from fastspan.runtime.session import OnnxSession, SessionSettings
from fastspan.text.encoder import Window
from support.models.tiny_checkpoint import WORDS
from support.stopped_runs import check_stops

QUESTION = "who built the tower"


def loaded(bundle: Path, variant: str = "fp32") -> LoadedBundle:
    return load_bundle(bundle, None, LoadOptions(variant=variant, threads=2))


def windows(bundle: LoadedBundle, count: int, length: int) -> list[Window]:
    """Windows of exactly ``length`` tokens."""
    context = " ".join(random.Random(3).choices(WORDS, k=length * (count + 1)))
    pair = bundle.encoder.encode([QUESTION], [context], AnswerOptions(max_length=length, overlap=0))[0]
    return list(pair.windows[:count])


@pytest.mark.parametrize("length", [16, 100, 384])
def test_a_window_has_the_same_logits_alone_and_in_a_batch(tiny_bundle: Path, length: int) -> None:
    tiny = loaded(tiny_bundle)
    batch = windows(tiny, 4, length)
    starts, ends = tiny.session.run(batch)
    assert starts.shape == ends.shape == (4, length)
    assert starts.dtype == ends.dtype == np.float32
    for row, window in enumerate(batch):
        start, end = tiny.session.run([window])
        np.testing.assert_allclose(starts[row], start[0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(ends[row], end[0], rtol=0, atol=1e-4)


def test_a_padded_graph_masks_its_padding(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    interchange = bundle.manifest.variants["fp32"].graph_for("other")
    assert interchange.layout == "padded"
    settings = SessionSettings(provider="CPUExecutionProvider", threads=2, spinning=False)
    session = OnnxSession(tiny_bundle, interchange, settings)
    tiny = loaded(tiny_bundle)
    mixed = [windows(tiny, 1, length)[0] for length in (384, 20, 77)]
    together = session.run(mixed)
    for row, window in enumerate(mixed):
        length = len(window.input_ids)
        for logits, alone in zip(together, session.run([window]), strict=True):
            assert logits.shape == (3, 384)
            np.testing.assert_allclose(logits[row, :length], alone[0], rtol=0, atol=1e-4)


def test_int8_gives_identical_bits_every_time(tiny_bundle: Path) -> None:
    tiny = loaded(tiny_bundle, "int8")
    window = windows(tiny, 1, 100)
    first = tiny.session.run(window)
    for other in [windows(tiny, 1, length) for length in (16, 384, 100)]:
        tiny.session.run(other)
    for logits, again in zip(first, tiny.session.run(window), strict=True):
        assert logits.tobytes() == again.tobytes()


@pytest.mark.parametrize(
    ("spinning", "duration", "told"), [(True, 500, "500"), (True, None, None), (False, 500, None)]
)
def test_threads_that_spin_are_told_how_long(
    tiny_bundle: Path, spinning: bool, duration: int | None, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: dict[str, str] = {}

    class Recording(onnxruntime.SessionOptions):  # type: ignore[misc]
        def add_session_config_entry(self, name: str, value: str) -> None:
            entries[name] = value
            super().add_session_config_entry(name, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Recording)
    graph = Bundle.open(tiny_bundle).manifest.variants["fp32"].graph_for("cpu")
    settings = SessionSettings(
        provider="CPUExecutionProvider", threads=2, spinning=spinning, spin_duration_us=duration
    )
    OnnxSession(tiny_bundle, graph, settings)
    assert entries.get("session.intra_op.spin_duration_us") == told


def test_a_graph_that_does_not_load(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07 no graph")
    graph = Graph(file="broken.onnx", target="any", layout="exact", inputs=("x",), opset=17, ir_version=8)
    settings = SessionSettings(provider="CPUExecutionProvider", threads=1, spinning=False)
    with pytest.raises(InferenceError, match=r"cannot load .*broken\.onnx on CPUExecutionProvider"):
        OnnxSession(tmp_path, graph, settings)


@pytest.mark.stress
def test_a_deadline_ends_a_run_within_50_ms_and_leaves_no_trace(deep_bundle: Path) -> None:
    deep = loaded(deep_bundle)
    count, whole = 1, 0.0
    while whole < 0.5:
        count *= 2
        batch = windows(deep, count, 384)
        began = time.monotonic()
        deep.session.run(batch)
        whole = time.monotonic() - began
    short = windows(deep, 1, 64)
    expected = deep.session.run(short)
    check_stops(lambda deadline: deep.session.run(batch, deadline=deadline), threads=2)
    for _ in range(100):
        for logits, again in zip(expected, deep.session.run(short), strict=True):
            assert logits.tobytes() == again.tobytes()


@pytest.mark.stress
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_memory_stays_what_it_was_after_warming_up(tiny_bundle: Path, variant: str) -> None:
    process, rng = psutil.Process(), random.Random(8)
    context = " ".join(rng.choices(WORDS, k=60))
    with QuestionAnswerer.load(tiny_bundle, variant=variant, threads=1) as qa:

        def ask(requests: int) -> int:
            for _ in range(requests):
                qa.answer(QUESTION, context[: rng.randrange(len(context))])
            return process.memory_info().rss

        qa.answer(QUESTION, context)
        warm = ask(500)
        later = ask(3_000)
    # A request that kept anything of itself would keep more than this.
    assert later <= warm + 3_000 * 1_000, f"{warm >> 10} KiB became {later >> 10} KiB"
