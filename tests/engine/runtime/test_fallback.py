"""Operators that a provider leaves to the CPU: all of them is an error, some of them is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

from fastspan import InferenceError, ProviderError, QuestionAnswerer
from fastspan.bundle.variants import Graph
from fastspan.runtime.session import OnnxSession, SessionSettings
from support.packages import put_in_place_of
from support.stand_ins.fake_runtime import CPU, CUDA, FakeRuntime

OPENVINO, AZURE = "OpenVINOExecutionProvider", "AzureExecutionProvider"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
Opened = Callable[..., OnnxSession]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    def open_with(runtime: FakeRuntime, provider: str = OPENVINO, layout: str = "padded") -> OnnxSession:
        put_in_place_of(monkeypatch, "onnxruntime", runtime)
        graph = Graph(
            file="model.onnx",
            target="cuda" if layout == "packed" else "any",
            layout=layout,
            inputs=INPUTS,
            opset=17,
            ir_version=8,
        )
        settings = SessionSettings(provider=provider, threads=1, spinning=False)
        return OnnxSession(Path("bundle"), graph, settings)

    return open_with


def test_a_provider_that_takes_the_whole_graph(opened: Opened) -> None:
    runtime = FakeRuntime(runs_on=[OPENVINO, CPU], assigned=[OPENVINO])
    assert opened(runtime).shared_with_cpu == ""
    assert runtime.options is not None
    assert runtime.options.entries["session.disable_cpu_ep_fallback"] == "1"


def test_a_provider_that_takes_some_operators_is_said_to(opened: Opened) -> None:
    session = opened(FakeRuntime(runs_on=[OPENVINO, CPU], assigned=[CPU, OPENVINO]))
    assert session.shared_with_cpu == f"Operators that {OPENVINO} does not take run on the CPU."
    assert session.providers == (OPENVINO, CPU)


def test_a_provider_that_takes_nothing_is_an_error(opened: Opened) -> None:
    runtime = FakeRuntime(runs_on=[OPENVINO, CPU], assigned=[CPU])
    with pytest.raises(ProviderError, match=f"{OPENVINO} was asked for, but takes none of .*provider='cpu'"):
        opened(runtime)


def test_an_onnxruntime_that_cannot_say_what_went_where(opened: Opened) -> None:
    runtime = FakeRuntime(runs_on=[OPENVINO, CPU], assigned=[CPU])
    del runtime.InferenceSession.get_provider_graph_assignment_info
    assert "run on the CPU" in opened(runtime).shared_with_cpu


def test_a_provider_that_was_replaced_lacks_a_library_not_operators(opened: Opened) -> None:
    with pytest.raises(ProviderError, match=f"put {CPU} in its place: a library of its own is missing"):
        opened(FakeRuntime(runs_on=[CPU], assigned=[CPU]))


def test_a_packed_graph_never_shares(opened: Opened) -> None:
    runtime = FakeRuntime(assigned=[CUDA, CPU])
    with pytest.raises(ProviderError, match=r"cannot load .*explicitly disabled"):
        opened(runtime, CUDA, "packed")


def test_the_cpu_has_nothing_to_share(opened: Opened) -> None:
    runtime = FakeRuntime(runs_on=[CPU], assigned=[CPU])
    assert opened(runtime, CPU).shared_with_cpu == ""


@pytest.mark.parametrize(
    ("provider", "kind", "mend"),
    [
        (CPU, InferenceError, "another variant, or export"),
        (OPENVINO, ProviderError, "provider='cpu' or another"),
    ],
)
def test_a_graph_that_does_not_load_comes_with_a_way_out(
    opened: Opened, provider: str, kind: type[Exception], mend: str
) -> None:
    runtime = FakeRuntime()

    def refuse(*arguments: object, **more: object) -> None:
        raise RuntimeError("no such operator")

    runtime.InferenceSession = refuse
    with pytest.raises(kind, match=rf"cannot load .* on {provider}: no such operator \(load .*{mend}"):
        opened(runtime, provider)


@pytest.mark.skipif(
    AZURE not in onnxruntime.get_available_providers(), reason="needs a provider without kernels"
)
class TestOnnxRuntimeItself:
    @pytest.mark.skipif(
        not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"),
        reason="needs onnxruntime 1.24",
    )
    def test_a_provider_that_takes_nothing(self, tiny_bundle: Path) -> None:
        with pytest.raises(ProviderError, match=f"{AZURE} was asked for, but takes none of the operators"):
            QuestionAnswerer.load(tiny_bundle, provider=AZURE, variant="fp32")

    def test_what_it_cannot_say_is_in_the_reason(
        self, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = "get_provider_graph_assignment_info"
        monkeypatch.setattr(onnxruntime.InferenceSession, name, None, raising=False)
        with QuestionAnswerer.load(tiny_bundle, provider=AZURE, variant="fp32") as qa:
            info = qa.info()
        assert info.providers[0] == AZURE
        assert info.reason.endswith(f"Operators that {AZURE} does not take run on the CPU.")
