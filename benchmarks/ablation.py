"""What each choice in the CPU graphs gives: the shipped graph against itself with one choice undone.

``python -m fastspan.benchmarks.ablation`` writes ``benchmarks/results/ablation.md``. All graphs of a
precision are sampled in turns, so that what slows the machine slows them alike.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastspan.benchmarks.interleaving import balanced_order
from fastspan.benchmarks.machine import describe_machine
from fastspan.benchmarks.report_document import Block, Heading, Paragraph, Table, markdown
from fastspan.benchmarks.results import write_text
from fastspan.benchmarks.speed_models import ROOT
from fastspan.benchmarks.speed_statistics import ratio_spread
from fastspan.cpu import cpu_features, usable_cores
from fastspan.errors import FastSpanError
from fastspan.export.architecture import Encoder, Layer, Linear, describe
from fastspan.export.checkpoint import read_checkpoint
from fastspan.export.hub import resolve_source
from fastspan.export.lowering.builder import MICROSOFT, WeightFile
from fastspan.export.lowering.encoder_graph import Lowering
from fastspan.export.lowering.int8_target import (
    Int8Lowering,
    joined_projection,
    quantize_encoder,
)
from fastspan.export.lowering.targets import CpuLowering
from fastspan.export.quantization import QuantizedLinear
from fastspan.providers import import_onnxruntime

__all__ = ["Choice", "GatheredCopies", "compared", "fp32_choices", "int8_choices", "main"]

_LENGTHS = (32, 128, 384)
_SHIPPED = "as shipped"


class _MaskedAttention(CpuLowering):
    """Fused attention, told which keys are padding."""

    def attention(self, name: str, layer: Layer, hidden: str) -> str:
        """Attention's context, (tokens, hidden); a mask, (batch, length), says which keys are padding."""
        graph = self.graph
        if not hasattr(self, "_mask"):
            self._mask = graph.input("attention_mask", ("batch", "length"), 6)
        query, key, value = (
            graph.add("Reshape", rows, self.hidden_shape) for rows in self.projections(name, layer, hidden)
        )
        context = graph.add(
            "MultiHeadAttention",
            query,
            key,
            value,
            "",
            self._mask,
            domain=MICROSOFT,
            name=name,
            num_heads=self.heads,
        )
        shape = graph.integers(-1, self.encoder.hidden_size)
        return graph.add("Reshape", context, shape, name=f"{name}.rows")


class _JoinedProjections(CpuLowering):
    """Query, key and value as one product."""

    def projections(self, name: str, layer: Layer, hidden: str) -> list[str]:
        """Query, key and value, (tokens, hidden) each, split from the one product."""
        rows = self.linear(f"{name}.projection", joined_projection(layer), hidden)
        return self.graph.add_many("Split", rows, axis=1, outputs=3)


class _StandardAttention(CpuLowering):
    """Attention from standard operators."""

    def attention(self, name: str, layer: Layer, hidden: str) -> str:
        """Attention's context, (tokens, hidden), as the interchange graph computes it."""
        return Lowering.attention(self, name, layer, hidden)


class _StandardActivation(CpuLowering):
    """The activation from standard operators."""

    def activation(self, name: str, rows: str) -> str:
        """The feed-forward activation, (tokens, inner), as the interchange graph computes it."""
        return Lowering.activation(self, name, rows)


class _ApartInt8(Int8Lowering):
    """Query, key and value apart: their input is quantized three times."""

    def projections(self, name: str, layer: Layer, hidden: str) -> list[str]:
        """Query, key and value, (tokens, hidden) each, by an int8 product of their own."""
        return CpuLowering.projections(self, name, layer, hidden)


class GatheredCopies(Int8Lowering):
    """Split channels copied out of each layer's input as it comes, before it is rounded."""

    def __init__(
        self,
        encoder: Encoder,
        quantized: Mapping[str, QuantizedLinear],
        weights: WeightFile | None = None,
        unsigned: WeightFile | None = None,
    ) -> None:
        super().__init__(encoder, quantized, weights, unsigned)
        self.quantized = quantized

    def linear(self, name: str, linear: Linear, rows: str) -> str:
        """Divide, gather and join numbers, then multiply as if no channel were split."""
        graph, layer = self.graph, self.quantized[name]
        share = graph.constant(f"{name}.share", (1 / layer.copies).astype(np.float32))
        rows = graph.add("Mul", rows, share, name=f"{name}.input")
        copied = graph.add("Gather", rows, graph.constant(f"{name}.split", layer.extra), axis=1)
        rows = graph.add("Concat", rows, copied, axis=1)
        whole = replace(layer, copies=np.ones(len(layer.weight), np.int64), extra=layer.extra[:0])
        self.quantized = {**self.quantized, name: whole}
        return super().linear(name, linear, rows)


@dataclass(frozen=True, slots=True)
class Choice:
    """A graph that differs from the shipped one in one choice.

    Attributes:
        name: What was done otherwise.
        lower: Makes the graph, given the file for its weights and, on CPUs whose products of u8 and s8
            saturate, the file for u8 weights.
        fused_norms: Whether ONNX Runtime may fuse Add and LayerNormalization.
    """

    name: str
    lower: Callable[[WeightFile, WeightFile | None], Lowering]
    fused_norms: bool = False


def fp32_choices(encoder: Encoder) -> list[Choice]:
    """The shipped fp32 graph first, then what each choice replaced."""
    return [
        Choice(_SHIPPED, lambda weights, _: CpuLowering(encoder, weights)),
        Choice("interchange graph", lambda weights, _: Lowering(encoder, weights), fused_norms=True),
        Choice("SkipLayerNormalization", lambda weights, _: CpuLowering(encoder, weights), fused_norms=True),
        Choice("attention with a mask", lambda weights, _: _MaskedAttention(encoder, weights)),
        Choice("attention not fused", lambda weights, _: _StandardAttention(encoder, weights)),
        Choice("activation not fused", lambda weights, _: _StandardActivation(encoder, weights)),
        Choice("query, key, value joined", lambda weights, _: _JoinedProjections(encoder, weights)),
    ]


def int8_choices(encoder: Encoder, quantized: dict[str, QuantizedLinear]) -> list[Choice]:
    """The shipped int8 graph first, then what each choice replaced; some of them lose accuracy."""
    once = {name: replace(layer, passes=1) for name, layer in quantized.items()}
    unsplit = {name: replace(layer, passes=1) for name, layer in quantize_encoder(encoder, {}).items()}
    apart = {
        **once,
        **{
            f"layer.{number}.attention.{part}": _columns(once[f"layer.{number}.attention.projection"], place)
            for number in range(len(encoder.layers))
            for place, part in enumerate(("query", "key", "value"))
        },
    }
    return [
        Choice(_SHIPPED, lambda s8, u8: Int8Lowering(encoder, quantized, s8, u8)),
        Choice("split channels gathered", lambda s8, u8: GatheredCopies(encoder, quantized, s8, u8)),
        Choice("no second passes", lambda s8, u8: Int8Lowering(encoder, once, s8, u8)),
        Choice("nor split channels", lambda s8, u8: Int8Lowering(encoder, unsplit, s8, u8)),
        Choice("no second passes; q, k, v apart", lambda s8, u8: _ApartInt8(encoder, apart, s8, u8)),
        Choice("fp32", lambda s8, _: CpuLowering(encoder, s8)),
    ]


def _columns(layer: QuantizedLinear, third: int) -> QuantizedLinear:
    """Query, key or value of a joined projection."""
    size = len(layer.bias) // 3
    columns = slice(third * size, (third + 1) * size)
    return replace(
        layer,
        weight=np.ascontiguousarray(layer.weight[:, columns]),
        scale=layer.scale[columns],
        bias=layer.bias[columns],
    )


def compared(choices: Sequence[Choice], *, threads: int, rounds: int, folder: Path) -> Table:
    """Run the graphs in turns and say how many times as long each takes as the first.

    Args:
        choices: The shipped graph, then the others.
        threads: Threads of a run.
        rounds: Rounds of every length.
        folder: Where weights may be written.
    """
    sessions = [_session(choice, threads, folder / str(place)) for place, choice in enumerate(choices)]
    rows: list[list[str]] = [[choice.name] for choice in choices]
    for length in _LENGTHS:
        taken: list[dict[int, list[float]]] = [{} for _ in choices]
        for number in range(-1, rounds):  # the first is for the caches
            for place in balanced_order(len(choices), max(number, 0)):
                found = _times(sessions[place], length)
                if number >= 0:
                    taken[place][number] = found
        shipped = float(np.median([time for times in taken[0].values() for time in times]))
        rows[0].append(f"{shipped * 1e3:.2f} ms")
        for place in range(1, len(choices)):
            ratio = ratio_spread(taken[place], taken[0])
            rows[place].append(f"{ratio.estimate:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]")
    return Table(("graph", *(f"{length} tokens" for length in _LENGTHS)), rows)


def _session(choice: Choice, threads: int, folder: Path) -> Any:
    folder.mkdir()
    exact = cpu_features().int8_dot_product is not None
    with WeightFile(folder / "weights") as weights, WeightFile(folder / "unsigned") as unsigned:
        model = choice.lower(weights, None if exact else unsigned).lower()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin after a run would take the cores from the next graph's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(
        str(folder / "model.onnx"),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=None if choice.fused_norms else ["SkipLayerNormFusion"],
    )


def _times(session: Any, length: int) -> list[float]:
    ids: npt.NDArray[np.int64] = np.random.default_rng(length).integers(5, 100, (1, length))
    values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    feeds = {
        given.name: values[given.name].astype(np.int32 if "int32" in given.type else np.int64)
        for given in session.get_inputs()
    }
    found = []
    for number in range(4):
        began = time.perf_counter()
        session.run(None, feeds)
        if number:  # the first run finds another graph's weights in the caches
            found.append(time.perf_counter() - began)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    description = (__doc__ or "").replace("`", "")
    parser = argparse.ArgumentParser(prog="python -m fastspan.benchmarks.ablation", description=description)
    add = parser.add_argument
    add(
        "--checkpoint",
        default=str(ROOT / "models" / "minilm-l6-squad2"),
        help="a checkpoint's folder or hub id (default: the bundled one)",
    )
    add("--rounds", type=int, default=21, help="how often each graph's turn comes (default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        help="folder for ablation.md (default: benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    try:
        page = options.out / "ablation.md"
        write_text(page, markdown(_page(options.checkpoint, options.rounds)))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(page)
    return 0


def _page(source: str, rounds: int) -> list[Block]:
    from fastspan.encoding import Encoder as TextEncoder
    from fastspan.export.native_route import Int8Recipe

    threads = usable_cores()
    checkpoint = read_checkpoint(resolve_source(source, None))
    encoder = describe(checkpoint.config, checkpoint.weights)
    texts = TextEncoder.from_folder(
        Path(source), segment_ids=encoder.takes_segment_ids, max_positions=encoder.max_positions
    )
    quantized = Int8Recipe().quantize(encoder, texts, threads)
    twice = [name for name, layer in quantized.items() if layer.passes == 2]
    tables = []
    for choices in (fp32_choices(encoder), int8_choices(encoder, quantized)):
        with tempfile.TemporaryDirectory() as name:
            tables.append(compared(choices, threads=threads, rounds=rounds, folder=Path(name)))
    storage = "s8" if cpu_features().int8_dot_product else "u8, for CPUs without an 8-bit dot product"
    return [
        Heading(1, f"What each choice gives: {checkpoint.source}"),
        Paragraph(
            "The graph as shipped in milliseconds of `session.run`, the others as multiples of it, with 95% "
            f"bootstrap intervals over {rounds} rounds; one window, {threads} threads. Above 1: the choice "
            "pays. Written by `python -m fastspan.benchmarks.ablation`."
        ),
        Heading(2, "fp32"),
        tables[0],
        Heading(2, "int8"),
        Paragraph(
            f"Weights stored as {storage}. Second passes: {', '.join(twice) or 'none'}, of "
            f"{len(quantized)} layers. What is faster here and not shipped loses answers: see "
            "docs/performance.md."
        ),
        tables[1],
        Heading(2, "Environment"),
        Table(("", ""), list(describe_machine(("fastspan", "onnxruntime", "numpy")).items()), texts=2),
    ]


if __name__ == "__main__":
    sys.exit(main())
