"""The precisions a bundle holds: their graphs, and how close each came to its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastspan.errors import BundleError
from fastspan.strict_json import require

__all__ = ["Graph", "Parity", "ProviderKind", "Target", "Variant", "VariantName"]

ProviderKind = Literal["cpu", "cuda", "other"]
# "cpu-dot": CPUs that sum products of 8-bit integers in one instruction, exactly.
Target = Literal["any", "cpu", "cpu-dot", "cuda"]
VariantName = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One ONNX file.

    Attributes:
        file: Its path in the bundle.
        target: The kind of provider, or of CPU, it was made for.
        layout: ``"padded"``: ``input_ids``, ``attention_mask`` and, with segment ids,
            ``token_type_ids``, each (batch, length). ``"exact"``: the same without a mask, for windows
            of equal length. ``"packed"``: windows joined without padding, for CUDA.
        inputs: The names of its inputs, in order.
        data: Paths of the external data files it reads.
        opset: Version of the default operator set.
        ir_version: Version of the ONNX file format.
        note: What was done to it, for people.
    """

    file: str
    target: Target
    layout: Literal["padded", "exact", "packed"]
    inputs: tuple[str, ...]
    data: tuple[str, ...] = ()
    opset: int
    ir_version: int
    note: str = ""

    def __post_init__(self) -> None:
        require(bool(self.inputs), f"{self.file} must have inputs")
        require(min(self.opset, self.ir_version) >= 1, f"{self.file} must have an opset and an IR version")
        require(self.layout != "packed" or self.target == "cuda", f"{self.file} is packed, so for CUDA")


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
    """One precision of the model, as one graph per target.

    Attributes:
        name: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        graphs: Its graphs, no two for the same target.
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
        targets = [graph.target for graph in self.graphs]
        require(bool(targets), f"variant {self.name} must have a graph")
        require(len(set(targets)) == len(targets), f"variant {self.name} has two graphs for one target")

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all its graphs and their data files, each once."""
        return tuple(dict.fromkeys(path for graph in self.graphs for path in (graph.file, *graph.data)))

    def runs_on(self, provider_kind: ProviderKind) -> bool:
        """Whether it has a graph for this kind of provider, on every machine that has the provider."""
        return any(graph.target in (provider_kind, "any") for graph in self.graphs)

    def graph_for(self, provider_kind: ProviderKind, *, dot_product: bool = False) -> Graph:
        """Return the graph made for this kind of provider, else the one for any.

        Args:
            provider_kind: Where it will run.
            dot_product: Whether the CPU has an 8-bit dot product (see ``CpuFeatures``).

        Raises:
            BundleError: There is neither.
        """
        by_target: dict[str, Graph] = {graph.target: graph for graph in self.graphs}
        wanted = ["cpu-dot"] if dot_product and provider_kind == "cpu" else []
        for target in (*wanted, provider_kind, "any"):
            if target in by_target:
                return by_target[target]
        raise BundleError(
            f"Variant {self.name} was exported for {', '.join(sorted(by_target))} only: choose another "
            "variant or provider, or export the checkpoint again for this one."
        )
