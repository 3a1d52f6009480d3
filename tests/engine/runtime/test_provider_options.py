"""Each provider's defaults, and that the caller's word goes before them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastspan import LoadOptions, ProviderError
from fastspan.loading import load_bundle
from fastspan.runtime.provider_options import default_options, engine_cache, make_cache_folders
from support.stand_ins.fake_runtime import CPU, CUDA, take_the_place_of_onnxruntime

TENSORRT, RTX = "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"


def defaults(provider: str, **changes: object) -> dict[str, str]:
    asked = {"half": True, "capture": False, "memory_limit": None, "digests": ("a" * 64,)} | changes
    return dict(default_options(provider, **asked))


def test_a_cpu_is_told_nothing() -> None:
    assert defaults(CPU, memory_limit=1 << 30) == {}


def test_cuda_computes_in_the_precision_it_names() -> None:
    options = defaults(CUDA)
    assert options["use_tf32"] == "0"
    assert options["enable_skip_layer_norm_strict_mode"] == "1"
    assert options["enable_cuda_graph"] == "0"
    assert "gpu_mem_limit" not in options
    assert defaults(CUDA, capture=True)["enable_cuda_graph"] == "1"


def test_memory_is_bounded_by_each_provider_in_its_own_words() -> None:
    limited = defaults(CUDA, memory_limit=1 << 30)
    assert limited["gpu_mem_limit"] == "1073741824"
    assert limited["arena_extend_strategy"] == "kSameAsRequested"
    assert defaults(TENSORRT, memory_limit=1 << 30)["trt_max_workspace_size"] == "1073741824"
    assert defaults(RTX, memory_limit=1 << 30)["nv_max_workspace_size"] == "1073741824"


def test_tensorrt_keeps_its_engines_and_uses_half_precision_for_half_graphs() -> None:
    options = defaults(TENSORRT)
    cache = str(engine_cache(["a" * 64]))
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == cache
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
    assert options["trt_fp16_enable"] == "1"
    assert defaults(TENSORRT, half=False)["trt_fp16_enable"] == "0"
    assert defaults(RTX) == {"nv_runtime_cache_path": cache}


def test_engines_of_other_weights_lie_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = engine_cache(["a" * 64, "b" * 64])
    assert folder.parent == tmp_path / "fastspan" / "engines"
    assert folder == engine_cache(["a" * 64, "b" * 64])
    assert folder != engine_cache(["a" * 64, "c" * 64])
    assert not folder.exists()


def test_only_who_keeps_engines_needs_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert defaults(CPU) == {}
    assert defaults(CUDA)["use_tf32"] == "0"
    for provider in (TENSORRT, RTX):
        with pytest.raises(ProviderError, match=r"no home folder .* set XDG_CACHE_HOME"):
            defaults(provider)


def test_the_folders_of_engines_are_made_with_their_parents(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a"))
    make_cache_folders(defaults(CUDA))
    assert list(tmp_path.iterdir()) == []
    make_cache_folders(defaults(TENSORRT))
    make_cache_folders(defaults(RTX, digests=["b" * 64]))
    assert len(list((tmp_path / "a" / "fastspan" / "engines").iterdir())) == 2
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ProviderError, match=r"cannot be made to keep engines in .*'trt_engine_cache_path'"):
        make_cache_folders(defaults(TENSORRT))


def test_what_the_caller_says_goes_before(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> None:
    runtime = take_the_place_of_onnxruntime(monkeypatch)
    options = LoadOptions(
        variant="fp32",
        provider="cuda",
        gpu_memory_limit=1 << 20,
        provider_options={"use_tf32": "1", "device_id": "3"},
    )
    load_bundle(tiny_bundle, None, options)
    ((provider, given),) = runtime.providers
    assert provider == CUDA
    assert given["use_tf32"] == "1"
    assert given["device_id"] == "3"
    assert given["gpu_mem_limit"] == "1048576"
    assert given["enable_cuda_graph"] == "0"
