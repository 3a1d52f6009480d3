"""The precisions a bundle holds: their graphs, and how close each came to its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastspan.bundle.strict_json import named, require
from fastspan.errors import BundleError

__all__ = ["OUTPUTS", "Graph", "Layout", "Parity", "ProviderKind", "Target", "Variant", "VariantName"]

ProviderKind = Literal["cpu", "cuda", "other"]
Target = Literal["any", "cpu", "cpu-dot-product", "cpu-kernels", "cuda"]
Layout = Literal["padded", "exact", "packed"]
VariantName = Literal["fp32", "fp16", "int8"]

OUTPUTS = ("start_logits", "end_logits")
"""The outputs of every graph."""

# Where a target has graphs of several layouts: the one without padding or restrictions first.
_BEST_FIRST: tuple[Layout, ...] = ("packed", "exact", "padded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One ONNX file.

    Attributes:
        file: Its path in the bundle.
        target: The kind of provider it was made for; ``"cpu-kernels"``: CPUs where FastSpan's own operators
            (``fastspan.kernels``) are there, and no others; ``"cpu-dot-product"``: CPUs that sum 8-bit
            products in one instruction, beside a graph for all CPUs that gives the same bits.
        layout: ``"padded"``: ``input_ids``, ``attention_mask`` and, with segment ids,
            ``token_type_ids``, each (batch, length). ``"exact"``: the same without a mask, for windows
            of equal length. ``"packed"``: windows joined end to end, for CUDA and FastSpan's own operators;
            (tokens,) in and out, with some of the inputs that ``fastspan.runtime.graph_inputs`` prepares.
        inputs: The names of its inputs, in order.
        data: Paths of the external data files it reads.
        opset: Version of the default operator set.
        ir_version: Version of the ONNX file format.
        note: What was done to it, for people.
    """

    file: str
    target: Target
    layout: Layout
    inputs: tuple[str, ...]
    data: tuple[str, ...] = ()
    opset: int
    ir_version: int
    note: str = ""

    def __post_init__(self) -> None:
        file = named(self.file)
        require(bool(self.inputs), f"{file} must have inputs")
        require(min(self.opset, self.ir_version) >= 1, f"{file} must have an opset and an IR version")
        can_be_packed = self.target in ("cuda", "cpu-kernels")
        require(self.layout != "packed" or can_be_packed, f"{file} is packed, so for CUDA or the kernels")
        for_kernels = self.target == "cpu-kernels"
        require(self.layout == "packed" or not for_kernels, f"{file} is for the kernels, so packed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How a variant was compared with its reference when it was exported.

    Attributes:
        reference: ``"pytorch"``: the checkpoint. ``"fp32"``: the bundle's fp32 variant.
        questions: Questions compared.
        windows: Windows those questions make.
        max_logit_difference: Largest absolute difference of a start or end logit.
        equal_answers: Share of the questions with the same answer, in [0, 1].
        gate: What was demanded, for people.
        passed: Whether the variant met the gate.
        provider: The ONNX Runtime execution provider that ran it.
        accepted_loss: Whether the exporter was told to accept a variant that misses the gate.
    """

    reference: Literal["pytorch", "fp32"]
    questions: int
    windows: int
    max_logit_difference: float
    equal_answers: float
    gate: str
    passed: bool
    provider: str
    accepted_loss: bool = False

    def __post_init__(self) -> None:
        require(0.0 <= self.equal_answers <= 1.0, "equal_answers is a share from 0 to 1")
        require(min(self.questions, self.windows) >= 0, "counts must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One precision of the model, as one graph per target and layout.

    Attributes:
        name: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        graphs: Its graphs, no two for the same target in the same layout.
        parity: How close it is to its reference; None if it was not compared.
        target: The instruction set or compute capability it was made for, for people.
        bytes: Size of its graphs with their external data.
    """

    name: VariantName
    graphs: tuple[Graph, ...]
    parity: Parity | None
    target: str
    bytes: int = 0

    def __post_init__(self) -> None:
        purposes = [(graph.target, graph.layout) for graph in self.graphs]
        require(bool(purposes), f"variant {self.name} must have a graph")
        require(
            len(set(purposes)) == len(purposes),
            f"variant {self.name} must not have two graphs for one target in one layout",
        )

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all its graphs and their data files, each once."""
        return tuple(dict.fromkeys(path for graph in self.graphs for path in (graph.file, *graph.data)))

    def runs_on(self, provider_kind: ProviderKind) -> bool:
        """Whether it has a graph for this kind of provider, on every machine that has the provider."""
        return any(graph.target in (provider_kind, "any") for graph in self.graphs)

    def graph_for(
        self, provider_kind: ProviderKind, *, kernels: bool = False, dot_product: bool = False
    ) -> Graph:
        """Return the graph made for this kind of provider, else the one for any.

        Of several layouts, ``"packed"`` is preferred, then ``"exact"``.

        Args:
            provider_kind: The kind of provider.
            kernels: Whether FastSpan's own operators are there: on a CPU, the graph for them goes first.
            dot_product: Whether the CPU sums 8-bit products in one instruction: the graph for that is next.

        Raises:
            BundleError: There is neither.
        """
        special: dict[Target, bool] = {"cpu-kernels": kernels, "cpu-dot-product": dot_product}
        own = [target for target, here in special.items() if here and provider_kind == "cpu"]
        for target in (*own, provider_kind, "any"):
            made = [graph for graph in self.graphs if graph.target == target]
            if made:
                return min(made, key=lambda graph: _BEST_FIRST.index(graph.layout))
        targets = sorted({graph.target for graph in self.graphs})
        raise BundleError(
            f"Variant {self.name} was exported for {', '.join(targets)} only: choose another "
            "variant or provider, or export the checkpoint again for this one."
        )
