"""What was asked for is what runs, or an error says how to mend it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import onnxruntime
import pytest

from fastspan import BundleError, LoadOptions, MissingDependency, ProviderError, QuestionAnswerer
from fastspan.loading import load_bundle
from fastspan.machine.cuda_libraries import CudaFindings
from fastspan.runtime.providers import (
    available_providers,
    bounds_spinning,
    import_onnxruntime,
    provider_kind,
    resolve_provider,
)
from support.packages import hide, put_in_place_of

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime that was built with CUDA, on a machine whose driver does not load."""
    real = onnxruntime.InferenceSession

    class TakesTheCpu(real):  # type: ignore[misc, valid-type]
        def __init__(
            self, path: str, options: object = None, providers: object = None, **more: object
        ) -> None:
            forbidden = "0"
            with suppress(RuntimeError):  # a session for the CPU says nothing of it
                forbidden = options.get_session_config_entry("session.disable_cpu_ep_fallback")  # type: ignore[attr-defined]
            if forbidden == "1":
                raise RuntimeError("fallback to CPU EP has been explicitly disabled by the user.")
            super().__init__(path, options, providers=[CPU], **more)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", TakesTheCpu)


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])


def test_a_provider_that_this_onnxruntime_lacks(without_cuda: None, tiny_bundle: Path) -> None:
    with pytest.raises(ProviderError) as caught:
        QuestionAnswerer.load(tiny_bundle, provider="cuda")
    message = str(caught.value)
    assert "provider 'cuda' was asked for, but the installed onnxruntime offers only " in message
    assert "pip install 'fastspan[gpu]'" in message
    assert "provider='cpu'" in message


@pytest.mark.parametrize("name", ["tensorrt", "openvino", "CoreMLExecutionProvider", "MineExecutionProvider"])
def test_every_missing_provider_is_refused(without_cuda: None, name: str) -> None:
    with pytest.raises(ProviderError, match=f"provider '{name}' was asked for.*install"):
        resolve_provider(name)


@pytest.mark.parametrize("name", ["", "gpu", "Cuda Execution"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ProviderError, match=f"provider '{name}' is not known: use 'auto', 'cpu', 'cuda'"):
        resolve_provider(name)


def test_names(with_cuda: None) -> None:
    assert available_providers() == [CUDA, CPU]
    assert [resolve_provider(name) for name in ("auto", "cuda", "CUDA", CUDA, "cpu", CPU)] == [
        *[CUDA] * 4,
        *[CPU] * 2,
    ]
    assert [provider_kind(name) for name in (CPU, CUDA, "TensorrtExecutionProvider")] == [
        "cpu",
        "cuda",
        "other",
    ]


def test_auto_is_the_cpu_where_there_is_no_cuda(without_cuda: None) -> None:
    assert resolve_provider("auto") == CPU


def test_a_provider_that_onnxruntime_replaces_is_an_error(with_cuda: None, tiny_bundle: Path) -> None:
    with pytest.raises(ProviderError, match=f"{CUDA} was asked for, but ONNX Runtime put {CPU} in its place"):
        QuestionAnswerer.load(tiny_bundle, provider="cuda")


def test_auto_falls_back_to_the_cpu_and_says_why(with_cuda: None, tiny_bundle: Path) -> None:
    with QuestionAnswerer.load(tiny_bundle) as qa:
        info = qa.info()
        assert info.providers == (CPU,)
        assert f"On the CPU, because {CUDA} cannot run: {CUDA} was asked for" in info.reason
        assert repr(qa).endswith(f"on {CPU}>")
        qa.answer("who built the tower", "the norse built the tower")


def test_int8_on_auto_goes_to_the_cpu_where_the_bundle_has_no_graph_of_it_for_cuda(
    with_cuda: None, tiny_bundle: Path
) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="int8") as qa:
        info = qa.info()
        assert (info.variant, info.providers) == ("int8", (CPU,))
        assert info.reason == f"int8 was asked for. On the CPU, because int8 has no graph for {CUDA}."
    with pytest.raises(BundleError, match="Variant int8 was exported for cpu only"):
        QuestionAnswerer.load(tiny_bundle, variant="int8", provider="cuda")
    with pytest.raises(BundleError, match="no variant 'fp16'; it holds fp32, int8"):
        QuestionAnswerer.load(tiny_bundle, variant="fp16")


READY = CudaFindings(driver="12.8", devices=("A GPU",), built_for="12.8", missing=())


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (
            replace(READY, driver=None, devices=()),
            "driver (libcuda.so.1) is missing or does not load: install",
        ),
        (replace(READY, devices=()), "driver shows no GPU: check `nvidia-smi`"),
        (
            replace(READY, missing=("libcudnn.so.9",)),
            "libcudnn.so.9 of CUDA 12.8 and cuDNN did not load: run pip",
        ),
        (replace(READY, built_for="13.0"), "built for CUDA 13.0, and NVIDIA's driver runs CUDA up to 12.8"),
        (READY, "a library of its own is missing"),
    ],
)
def test_what_cuda_lacks_is_named_with_how_to_mend_it(
    with_cuda: None, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, found: CudaFindings, says: str
) -> None:
    monkeypatch.setattr("fastspan.machine.cuda_libraries.find_cuda", lambda runtime: found)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(ProviderError) as caught:
        QuestionAnswerer.load(tiny_bundle, provider="cuda")
    assert f"{CUDA} was asked for, but ONNX Runtime put {CPU} in its place: " in str(caught.value)
    assert says in str(caught.value)
    assert "fastspan doctor" in str(caught.value)


def test_a_provider_that_refuses_the_graph_is_an_error(
    with_cuda: None, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise RuntimeError("CUDA failure 35: driver version is insufficient")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(ProviderError, match=f"on {CUDA}: CUDA failure 35") as caught:
        QuestionAnswerer.load(tiny_bundle, provider="cuda")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_reported_providers_are_those_of_the_session(tiny_bundle: Path) -> None:
    loaded = load_bundle(tiny_bundle, None, LoadOptions(provider="cpu", variant="fp32"))
    with QuestionAnswerer(loaded) as qa:
        assert qa.info().providers == tuple(loaded.session.loaded.session().get_providers()) == (CPU,)


# --- onnxruntime missing or broken. ---


def test_without_onnxruntime_the_extras_are_named(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    hide(monkeypatch, "onnxruntime")
    with pytest.raises(MissingDependency, match=r"fastspan\[cpu\].*fastspan\[gpu\].*not both") as caught:
        QuestionAnswerer.load(tiny_bundle)
    assert isinstance(caught.value.__cause__, ImportError)


def test_two_wheels_over_each_other(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    # What uninstalling one of two wheels leaves: an empty namespace package.
    put_in_place_of(monkeypatch, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(MissingDependency, match="pip uninstall -y onnxruntime onnxruntime-gpu, then"):
        QuestionAnswerer.load(tiny_bundle)


IMPORT = """
import os, sys
{before}
import fastspan.runtime.providers
before = dict(os.environ)
fastspan.runtime.providers.import_onnxruntime()
assert dict(os.environ) == before, "the environment was changed"
print(os.environ.get("ORT_DISABLE_TELEMETRY"), seen)
"""
WATCH = """
import importlib.abc
seen = "not imported"
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        global seen
        if name == "onnxruntime":
            seen = os.environ.get("ORT_DISABLE_TELEMETRY")
sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize(
    ("setting", "printed"), [(None, "None 1"), ("0", "0 0"), ("1", "1 1")], ids=["unset", "0", "1"]
)
def test_telemetry_is_off_unless_the_user_set_it(setting: str | None, printed: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    if setting is not None:
        environment["ORT_DISABLE_TELEMETRY"] = setting
    done = subprocess.run(
        [sys.executable, "-c", IMPORT.format(before=WATCH)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == printed, done.stderr


def test_importing_twice_is_importing_once() -> None:
    assert import_onnxruntime() is import_onnxruntime() is onnxruntime


@pytest.mark.parametrize(
    ("version", "known"),
    [("1.25.1", False), ("1.26.0", True), ("1.26.0.dev20260501", True), ("2.0.0", True), ("unknown", False)],
)
def test_from_which_version_on_spinning_has_a_duration(version: str, known: bool) -> None:
    assert bounds_spinning(version) is known
