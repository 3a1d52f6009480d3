"""A stand-in for onnxruntime with a GPU: it records what it is asked for and computes logits in numpy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

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


class OrtValue:
    """Memory on the GPU: its array is reached through copies alone."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.updates = 0

    @classmethod
    def ortvalue_from_numpy(cls, array: np.ndarray, device: str, number: int) -> OrtValue:
        assert device == "cuda"
        assert number == 0
        return cls(array.copy())

    @classmethod
    def ortvalue_from_shape_and_type(cls, shape: list[int], kind: type, device: str, number: int) -> OrtValue:
        assert device == "cuda"
        assert number == 0
        return cls(np.zeros(shape, kind))

    def update_inplace(self, array: np.ndarray) -> None:
        assert array.shape == self.array.shape, "a captured buffer never changes its size"
        assert array.dtype == self.array.dtype
        self.array[...] = array
        self.updates += 1

    def numpy(self) -> np.ndarray:
        return self.array.copy()


class Binding:
    def __init__(self) -> None:
        self.inputs: dict[str, OrtValue] = {}
        self.outputs: dict[str, OrtValue] = {}

    def bind_ortvalue_input(self, name: str, value: OrtValue) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: OrtValue) -> None:
        self.outputs[name] = value


def logits(feeds: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Whatever tells tokens, segments and positions apart."""
    ids = feeds["input_ids"].astype(np.float32)
    places = feeds["position_ids"].astype(np.float32) if "position_ids" in feeds else 0
    return ids + 1000 * feeds["token_type_ids"], ids - places


class FakeRuntime(ModuleType):
    """Takes the place of onnxruntime.

    Args:
        runs_on: What its sessions run on, whatever is asked for.
        before_run: Called with the inputs before every run; may raise.
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
        self.RunOptions, self.SessionOptions, self.OrtValue = RunOptions, SessionOptions, OrtValue

        class InferenceSession:
            def __init__(
                self, path: str, options: SessionOptions, providers: list, disabled_optimizers: object
            ) -> None:
                runtime.options, runtime.providers = options, providers
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
                return Binding()

            def run(self, names: Sequence[str], feeds: Mapping, options: RunOptions | None = None) -> list:
                assert list(names) == ["start_logits", "end_logits"]
                self._note("run", options, feeds)
                return list(logits(feeds))

            def run_with_iobinding(self, binding: Binding, options: RunOptions) -> None:
                feeds = {name: value.array for name, value in binding.inputs.items()}
                self._note("bound", options, feeds)
                for value, found in zip(binding.outputs.values(), logits(feeds), strict=True):
                    value.array[...] = found

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
