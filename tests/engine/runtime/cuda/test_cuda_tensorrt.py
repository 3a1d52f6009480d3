"""TensorRT is offered by ONNX Runtime's wheels whether or not it is installed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fastspan import ProviderError
from fastspan.machine import cuda_libraries
from fastspan.machine.cuda_libraries import preload_tensorrt, why_tensorrt_fails
from fastspan.runtime.session import OnnxSession
from support.packages import hide
from support.stand_ins.cuda_sessions import PADDED, settings
from support.stand_ins.fake_runtime import CPU, CUDA, take_the_place_of_onnxruntime

TENSORRT = "TensorrtExecutionProvider"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """NVIDIA's package of TensorRT's libraries, whose import loads them."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt_libs", raising=False)
    package = tmp_path / "tensorrt_libs.py"
    package.write_text("loaded = True\n")
    return package


def test_a_session_on_tensorrt_loads_its_wheel_and_others_do_not(
    wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_the_place_of_onnxruntime(monkeypatch, runs_on=[CUDA, CPU])
    OnnxSession(Path("bundle"), PADDED, settings())
    assert "tensorrt_libs" not in sys.modules
    take_the_place_of_onnxruntime(monkeypatch, runs_on=[TENSORRT, CPU])
    OnnxSession(Path("bundle"), PADDED, replace(settings(), provider=TENSORRT))
    assert sys.modules["tensorrt_libs"].loaded


@pytest.mark.parametrize("broken", ["raise OSError('libnvinfer.so.10')", "import no_such_module"])
def test_a_wheel_that_does_not_load_is_found_out_later(wheel: Path, broken: str) -> None:
    wheel.write_text(broken)
    preload_tensorrt()


@pytest.mark.skipif(sys.platform == "win32", reason="libraries are named differently")
def test_what_does_not_load_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "tensorrt_libs")
    assert why_tensorrt_fails(load=lambda file: None if "nvinfer" in file else object()) == (
        "libnvinfer.so.10, libnvinfer_plugin.so.10 of TensorRT 10 did not load: run pip install "
        "'tensorrt<11', or install it system-wide."
    )
    assert why_tensorrt_fails(load=lambda file: object()) is None


def test_a_session_without_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    take_the_place_of_onnxruntime(monkeypatch, runs_on=[CPU])
    monkeypatch.setattr("fastspan.runtime.loaded_graph.why_cuda_fails", lambda runtime: None)
    monkeypatch.setattr(cuda_libraries, "load_library", lambda file: None)
    with pytest.raises(ProviderError, match=rf"{TENSORRT} was asked for.*nvinfer.*'tensorrt<11'"):
        OnnxSession(Path("bundle"), PADDED, replace(settings(), provider=TENSORRT))
    with pytest.raises(ProviderError, match="a library of its own is missing"):
        OnnxSession(Path("bundle"), PADDED, settings())
