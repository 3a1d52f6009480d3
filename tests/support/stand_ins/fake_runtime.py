"""A stand-in for onnxruntime with a GPU: it records what it is asked for and computes logits in numpy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pytest

from support.packages import put_in_place_of

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class RunOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.terminate = False

    def add_run_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


class SessionOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.enable_mem_pattern = True

    def add_session_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


class Gpu:
    """What captures fail for: another thread's use of the GPU while one is under way.

    Attributes:
        copies: What was copied, in order: ``"to"`` or ``"from"`` the GPU.
        memory: Address → what lies there, for as long as somebody holds it.
    """

    def __init__(self) -> None:
        self.copies: list[str] = []
        self.memory: WeakValueDictionary[int, OrtValue] = WeakValueDictionary()
        self._free = 1 << 20
        self._lock = threading.Lock()
        self._inside: list[int] = []
        self._capturing: int | None = None
        self._voided = False

    @contextmanager
    def touched(self, *, captures: bool = False) -> Iterator[None]:
        """A use of the GPU."""
        thread = threading.get_ident()
        with self._lock:
            if self._capturing not in (None, thread):
                self._voided = True
                raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")
            if captures:
                self._capturing, self._voided = thread, any(other != thread for other in self._inside)
            self._inside.append(thread)
        try:
            yield
        finally:
            with self._lock:
                self._inside.remove(thread)
                voided = self._voided
                if captures:
                    self._capturing = None
        if captures and voided:
            raise RuntimeError("CUDA failure 901: operation failed due to a previous error during capture")

    def hold(self, value: OrtValue) -> int:
        address, self._free = self._free, self._free + value.array.nbytes + (1 << 12)
        self.memory[address] = value
        return address

    def at(self, address: int, kind: type, shape: Sequence[int]) -> np.ndarray:
        """The memory behind an address, which must lie within one allocation that is still held."""
        base = max(begin for begin in self.memory if begin <= address)
        assert (address - base) % 256 == 0, "tensors begin where kernels may read vectors"
        count = int(np.prod(shape)) * np.dtype(kind).itemsize
        held = self.memory[base].array.view(np.uint8)
        assert address - base + count <= held.size, "beyond the memory that was allocated"
        return held[address - base :][:count].view(kind).reshape(shape)


class OrtValue:
    """Memory on the GPU: its array is reached through copies alone."""

    gpu: Gpu

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self._address = self.gpu.hold(self)

    @classmethod
    def ortvalue_from_shape_and_type(cls, shape: list[int], kind: type, device: str, number: int) -> OrtValue:
        assert device == "cuda"
        assert number == 0
        with cls.gpu.touched():
            return cls(np.full(shape, 99, kind))

    def data_ptr(self) -> int:
        return self._address

    def update_inplace(self, array: np.ndarray) -> None:
        assert array.shape == self.array.shape, "a captured buffer never changes its size"
        assert array.dtype == self.array.dtype
        with self.gpu.touched():
            self.array[...] = array
            self.gpu.copies.append("to")

    def numpy(self) -> np.ndarray:
        with self.gpu.touched():
            self.gpu.copies.append("from")
            return self.array.copy()


class Binding:
    """Addresses, looked up at each run."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._inputs: dict[str, tuple[int, type, list[int]]] = {}
        self._outputs: dict[str, tuple[int, type, list[int]]] = {}

    def bind_input(
        self, name: str, device: str, number: int, kind: type, shape: list[int], address: int
    ) -> None:
        assert (device, number, kind) == ("cuda", 0, np.int32)
        self._inputs[name] = address, kind, shape

    def bind_output(
        self, name: str, device: str, number: int, kind: type, shape: list[int], address: int
    ) -> None:
        assert (device, number, kind) == ("cuda", 0, np.float32)
        self._outputs[name] = address, kind, shape

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        return {name: self._gpu.at(*place) for name, place in self._inputs.items()}

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        return {name: self._gpu.at(*place) for name, place in self._outputs.items()}


def logits(feeds: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Whatever tells tokens, segments and positions apart."""
    ids = feeds["input_ids"].astype(np.float32)
    places = feeds["position_ids"].astype(np.float32) if "position_ids" in feeds else 0
    return ids + 1000 * feeds["token_type_ids"], ids - places


class FakeRuntime(ModuleType):
    """Takes the place of onnxruntime.

    Args:
        runs_on: What its sessions run on, whatever is asked for.
        before_run: Called with the inputs at the beginning of every run and capture; may raise.
        assigned: Which providers a graph's operators go to: a session that forbids the CPU is refused where
            that is one of them. None: all go where they are asked to.
    """

    __version__ = "0"
    cuda_version = "12.8"

    def __init__(
        self,
        runs_on: Sequence[str] = (CUDA, CPU),
        before_run: Callable[[Mapping], None] | None = None,
        assigned: Sequence[str] | None = None,
    ) -> None:
        super().__init__("onnxruntime")
        runtime = self
        self.calls: list[tuple[str, dict[str, str], dict[str, tuple[int, ...]]]] = []
        self.threads: set[int] = set()
        self.options: SessionOptions | None = None
        self.providers: list[Any] = []
        self.preloads = 0
        self.gpu = Gpu()
        self.RunOptions, self.SessionOptions = RunOptions, SessionOptions
        self.OrtValue = type("OrtValue", (OrtValue,), {"gpu": self.gpu})

        class InferenceSession:
            def __init__(
                self, path: str, options: SessionOptions, providers: list, disabled_optimizers: object
            ) -> None:
                runtime.options, runtime.providers = options, providers
                self._captured: set[str] = set()
                with runtime.gpu.touched():
                    pass
                forbidden = options.entries.get("session.disable_cpu_ep_fallback") == "1"
                if forbidden and CPU in (assigned or ()):
                    raise RuntimeError(
                        "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned "
                        "to the default CPU EP, but fallback to CPU EP has been explicitly disabled by the "
                        "user."
                    )

            def get_providers(self) -> list[str]:
                return list(runs_on)

            def disable_fallback(self) -> None:
                pass

            def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
                assert runtime.options is not None
                assert runtime.options.entries["session.record_ep_graph_assignment_info"] == "1"
                return [SimpleNamespace(ep_name=provider) for provider in assigned or ()]

            def io_binding(self) -> Binding:
                return Binding(runtime.gpu)

            def run(self, names: Sequence[str], feeds: Mapping, options: RunOptions | None = None) -> list:
                assert list(names) == ["start_logits", "end_logits"]
                with runtime.gpu.touched():
                    self._note("run", options, feeds)
                    return list(logits(feeds))

            def run_with_iobinding(self, binding: Binding, options: RunOptions) -> None:
                number = options.entries["gpu_graph_id"]
                with runtime.gpu.touched(captures=number not in self._captured):
                    self._note("bound", options, binding.inputs)
                    found = dict(zip(("start_logits", "end_logits"), logits(binding.inputs), strict=True))
                    for name, array in binding.outputs.items():
                        array[...] = found[name]
                self._captured.add(number)

            def _note(self, kind: str, options: RunOptions | None, feeds: Mapping) -> None:
                runtime.threads.add(threading.get_ident())
                shapes = {name: array.shape for name, array in feeds.items()}
                runtime.calls.append((kind, dict(options.entries) if options else {}, shapes))
                if before_run is not None:
                    before_run(feeds)

        self.InferenceSession = InferenceSession

    def preload_dlls(self) -> None:
        self.preloads += 1

    def get_available_providers(self) -> list[str]:
        return [CUDA, CPU]


def take_the_place_of_onnxruntime(monkeypatch: pytest.MonkeyPatch, **options: Any) -> FakeRuntime:
    """Let the engine find a stand-in where it imports onnxruntime."""
    runtime = FakeRuntime(**options)
    put_in_place_of(monkeypatch, "onnxruntime", runtime)
    return runtime
