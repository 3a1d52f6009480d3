"""A packed session on a stand-in for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastspan.bundle.variants import Graph
from fastspan.runtime.cuda.session import CudaSession
from fastspan.runtime.provider_options import default_options
from fastspan.runtime.session import OnnxSession, SessionSettings
from fastspan.text.encoder import Window
from support.stand_ins.fake_runtime import CUDA, logits

__all__ = ["INPUTS", "PACKED", "PADDED", "check", "expected", "opened", "settings", "windows"]


INPUTS = ("input_ids", "token_type_ids", "position_ids", "token_offset", "cumulative_sequence_length")


PACKED = Graph(file="onnx/packed.onnx", target="cuda", layout="packed", inputs=INPUTS, opset=17, ir_version=8)


PADDED = Graph(
    file="onnx/padded.onnx",
    target="any",
    layout="padded",
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    opset=17,
    ir_version=8,
)


def settings(capture_up_to: int = 0, **options: str) -> SessionSettings:
    defaults = default_options(CUDA, half=True, capture=capture_up_to > 0, memory_limit=None, digests=())
    return SessionSettings(
        provider=CUDA,
        provider_options={**defaults, **options},
        threads=1,
        spinning=False,
        padding_id=7,
        capture_up_to=capture_up_to,
    )


def opened(capture_up_to: int = 0, **options: str) -> CudaSession:
    return CudaSession(Path("bundle"), PACKED, settings(capture_up_to, **options))


def windows(*lengths: int) -> list[Window]:
    return [
        Window(100 * number + np.arange(length), np.full(length, number % 2), 0, 0, 0)
        for number, length in enumerate(lengths, 1)
    ]


def check(session: OnnxSession, asked: list[Window]) -> None:
    found = session.run(asked)
    for side, rows in enumerate(found):
        assert rows.shape == (len(asked), max(len(window.input_ids) for window in asked))
        for row, window in zip(rows, asked, strict=True):
            assert np.array_equal(row[: len(window.input_ids)], expected(window)[side])


def expected(window: Window) -> tuple[np.ndarray, np.ndarray]:
    places = np.arange(len(window.input_ids))
    feeds = {"input_ids": window.input_ids, "token_type_ids": window.type_ids, "position_ids": places}
    return logits(feeds)
