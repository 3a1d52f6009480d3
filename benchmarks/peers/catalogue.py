"""Every system that is measured, with the settings it is measured at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fastspan.benchmarks.questions.workloads import Group
from fastspan.machine.cpu import CpuFeatures
from fastspan.machine.cuda_libraries import why_tensorrt_fails

__all__ = ["OURS", "PeerSpec", "cpu_peers", "gpu_peers"]

OURS = "FastSpan"
"""The name of the system that all others are compared with."""

_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
_EVERYTHING: tuple[Group, ...] = ("single", "batch")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSpec:
    """A system at certain settings.

    Attributes:
        system: Whose it is.
        variant: Its precision, for people.
        mode: ``"latency"``: one run at a time on all threads. ``"throughput"``: several runs at once.
        module: Module in ``fastspan.benchmarks.peers.systems`` that loads and runs it.
        environment: ``"project"``: the project's own environment. Else the name of one that
            ``requirements-NAME.txt`` describes.
        options: What its module needs to know.
        groups: Which workloads it runs.
        absent: Why it is not measured, None where it is.
    """

    system: str
    variant: str
    mode: str = "latency"
    module: str
    environment: str = "project"
    options: Mapping[str, str | bool] = field(default_factory=dict)
    groups: tuple[Group, ...] = _EVERYTHING
    absent: str | None = None

    @property
    def name(self) -> str:
        """System, variant and mode: unlike any other peer's."""
        return f"{self.system} {self.variant}" + (", throughput" if self.mode == "throughput" else "")


def cpu_peers(cpu: CpuFeatures, providers: tuple[str, ...], *, quick: bool) -> list[PeerSpec]:
    """Return what is measured on a CPU, FastSpan first.

    Args:
        cpu: This machine's instruction sets.
        providers: Full names of the execution providers that onnxruntime offers.
        quick: Leave out what takes long: peers with a large environment of their own, and compiling.
    """
    bf16: tuple[Group, ...] = _EVERYTHING
    no_bf16 = None
    if not any(flag in cpu.flags for flag in _BF16):
        # Emulated it takes many times as long: enough to show it, too long for many windows.
        bf16 = ("single",)
        if quick:
            no_bf16 = "this CPU has no bf16 arithmetic, so it would be emulated; left to the full run"
    left_out = "left to the full run (`make bench-full`)" if quick else None
    vnni = "avx512_vnni" in cpu.flags
    return [
        *_ours("CPUExecutionProvider", ("fp32", "int8")),
        *(_unusual(name) for name in providers if name != "CPUExecutionProvider"),
        _transformers("fp32", "cpu"),
        _only(_transformers("bf16", "cpu", absent=no_bf16), bf16),
        _transformers("fp32", "cpu", compiled="dynamic", absent=left_out),
        PeerSpec(
            system="optimum",
            variant="fp32",
            module="optimum_peer",
            options={"int8": "", "device": "cpu", "half": False},
            absent=left_out,
        ),
        PeerSpec(
            system="optimum",
            variant="int8 avx512_vnni" if vnni else "int8 avx2",
            module="optimum_peer",
            options={"int8": "avx512_vnni" if vnni else "avx2", "device": "cpu", "half": False},
        ),
        PeerSpec(
            system="Haystack",
            variant="fp32",
            module="haystack_peer",
            environment="haystack",
            options={"device": "cpu"},
            absent=left_out,
        ),
        *_openvino("fp32", "f32"),
        *(_only(spec, bf16) for spec in _openvino("bf16", "bf16", absent=no_bf16)),
        *_openvino("int8 (NNCF)", "int8"),
    ]


def gpu_peers(
    providers: tuple[str, ...],
    *,
    quick: bool,
    why_no_tensorrt: Callable[[], str | None] = why_tensorrt_fails,
) -> list[PeerSpec]:
    """Return what is measured on an NVIDIA GPU, FastSpan first.

    Args:
        providers: Full names of the execution providers that onnxruntime offers.
        quick: Leave out what takes long to compile or to export, and is not a system's fastest.
        why_no_tensorrt: Says what TensorRT lacks here; None: nothing.
    """
    left_out = "left to the full run (`make bench-gpu-full`)" if quick else None
    wanted = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
    # ONNX Runtime offers TensorRT whether or not its libraries are here.
    no_tensorrt = why_no_tensorrt() if "TensorrtExecutionProvider" in providers else None
    return [
        *(
            replace(spec, absent=no_tensorrt if name == "TensorrtExecutionProvider" else None)
            for name in wanted
            if name in providers
            for spec in _ours(name, ("fp16", "fp32"))
        ),
        _transformers("fp32", "cuda"),
        _transformers("fp16", "cuda"),
        _transformers("fp16", "cuda", compiled="dynamic", absent=left_out),
        # It compiles and captures once a shape, and batches of all lengths have too many.
        _only(_transformers("fp16", "cuda", compiled="cuda-graphs"), ("single",)),
        *(
            PeerSpec(
                system="optimum",
                variant=precision,
                module="optimum_peer",
                environment="optimum-cuda",
                options={"int8": "", "device": "cuda", "half": precision == "fp16"},
                absent=absent,
            )
            for precision, absent in (("fp16", None), ("fp32", left_out))
        ),
    ]


def _only(spec: PeerSpec, groups: tuple[Group, ...]) -> PeerSpec:
    """The peer, asked these groups of workloads alone."""
    left = tuple(group for group in spec.groups if group in groups)
    absent = (
        None if left else "this CPU has no bf16 arithmetic, and emulated it is asked single questions alone"
    )
    return replace(spec, groups=left, absent=spec.absent or absent)


def _ours(provider: str, variants: tuple[str, ...]) -> list[PeerSpec]:
    short = provider.removesuffix("ExecutionProvider")
    return [
        PeerSpec(
            system=OURS,
            variant=variant if short == "CPU" else f"{variant} {short}",
            mode=mode,
            module="fastspan_peer",
            options={"variant": variant, "provider": provider, "optimize_for": mode},
            groups=_EVERYTHING if mode == "latency" else ("batch",),
        )
        for variant in variants
        for mode in ("latency", "throughput")
    ]


def _unusual(provider: str) -> PeerSpec:
    """A provider that onnxruntime offers here beside the CPU's."""
    remote = "it sends work to a remote endpoint and runs no graph on this machine"
    spec, _ = _ours(provider, ("fp32",))
    return replace(spec, absent=remote) if provider == "AzureExecutionProvider" else spec


def _transformers(precision: str, device: str, *, compiled: str = "", absent: str | None = None) -> PeerSpec:
    return PeerSpec(
        system="transformers",
        variant=precision + {"": "", "dynamic": " compiled", "cuda-graphs": " CUDA graphs"}[compiled],
        module="transformers_peer",
        environment="project" if device == "cpu" else "cuda",
        options={"precision": precision, "device": device, "compile": compiled},
        absent=absent,
    )


def _openvino(variant: str, precision: str, *, absent: str | None = None) -> list[PeerSpec]:
    return [
        PeerSpec(
            system="OpenVINO",
            variant=variant,
            mode=mode,
            module="openvino_peer",
            environment="openvino",
            options={"precision": precision, "optimize_for": mode},
            groups=_EVERYTHING if mode == "latency" else ("batch",),
            absent=absent,
        )
        for mode in ("latency", "throughput")
    ]
