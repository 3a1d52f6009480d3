"""What the doctor finds on machines that lack one thing or another."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from fastspan.cli import diagnosis
from fastspan.cli.diagnosis import auto_provider, diagnose
from fastspan.cli.main import main
from fastspan.machine.cpu import CpuFeatures
from fastspan.machine.cuda_libraries import CudaFindings, find_cuda
from support.forced_cpu import forced_features
from support.packages import hide, put_in_place_of

NOTHING = CudaFindings(driver=None, devices=(), built_for=None, missing=("libcuda.so.1",))
GPULESS = CudaFindings(driver="13.0", devices=(), built_for="13.0", missing=())
READY = CudaFindings(driver="13.0", devices=("A GPU",), built_for="13.0", missing=())


class Session:
    def __init__(self, *_arguments: object, providers: list[str]) -> None:
        self._providers = providers

    def get_providers(self) -> list[str]:
        return self._providers


class FallenBack(Session):
    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def gpu_build(session: type[Session], **attributes: object) -> ModuleType:
    """An onnxruntime that offers CUDA."""
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    module = ModuleType("onnxruntime")
    module.__dict__.update(
        get_available_providers=lambda: providers,
        InferenceSession=session,
        SessionOptions=SimpleNamespace,
        **attributes,
    )
    return module


@pytest.fixture
def absent(monkeypatch):
    """No onnxruntime can be imported."""
    hide(monkeypatch, "onnxruntime")


def test_the_command_tells_what_is_here(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for label in ("python", "packages", "onnxruntime", "providers", "cpu", "cuda", "auto", "problems"):
        assert f"\n{label} " in f"\n{out}"
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["usable_cores"] >= 1
    assert found["auto"]["provider"] in found["providers"]
    assert found["packages"]["numpy"]


def test_without_onnxruntime_it_names_the_extra_and_does_not_fail(absent, capsys):
    found = diagnose()
    assert found.auto.provider is None
    assert found.providers == ()
    assert any("fastspan[cpu]" in problem for problem in found.problems)
    assert main(["doctor"]) == 0
    assert "nothing: ONNX Runtime is not usable" in capsys.readouterr().out


def test_two_wheels_over_each_other_are_a_problem(tmp_path, monkeypatch):
    for name in ("onnxruntime", "onnxruntime_gpu"):
        (tmp_path / f"{name}-1.2.dist-info").mkdir()
        written = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n"
        (tmp_path / f"{name}-1.2.dist-info" / "METADATA").write_text(written)
    monkeypatch.syspath_prepend(tmp_path)
    problems = diagnose().problems
    assert any("onnxruntime and onnxruntime-gpu are installed together" in problem for problem in problems)


def test_auto_takes_cuda_only_where_it_starts(monkeypatch):
    put_in_place_of(monkeypatch, "onnxruntime", gpu_build(Session))
    assert auto_provider(READY).provider == "CUDAExecutionProvider"
    put_in_place_of(monkeypatch, "onnxruntime", gpu_build(FallenBack))
    for found, reason in (
        (READY, "though its driver and libraries load"),
        (NOTHING, "lacks libcuda.so.1"),
        (GPULESS, "shows no GPU"),
    ):
        auto = auto_provider(found)
        assert auto.provider == "CPUExecutionProvider"
        assert reason in auto.reason


def test_a_cuda_build_that_cannot_run_is_a_problem(monkeypatch):
    put_in_place_of(monkeypatch, "onnxruntime", gpu_build(FallenBack, cuda_version="13.0"))
    assert any("built for CUDA 13.0" in problem for problem in diagnose().problems)


@pytest.mark.parametrize(
    ("flags", "kernels", "variant"),
    [
        ({"avx2", "avx512_vnni"}, "", "int8"),
        ({"avx2"}, "", "fp32"),
        ({"avx2"}, "avx2", "int8"),
        ({"avx2"}, "portable", "fp32"),
    ],
    ids=["vnni", "avx2", "kernels", "portable kernels"],
)
def test_the_variant_that_auto_takes_follows_the_cpu_and_the_kernels(monkeypatch, flags, kernels, variant):
    monkeypatch.setattr(diagnosis, "best_path", lambda: kernels)
    with forced_features(CpuFeatures("x86_64", frozenset(flags))):
        found = diagnose()
    if found.auto.provider == "CPUExecutionProvider":
        assert found.auto_variant == variant
    assert found.instruction_sets["avx512_vnni"] == ("avx512_vnni" in flags)


@pytest.mark.skipif(sys.platform == "win32", reason="libraries are named differently")
def test_the_libraries_looked_for_are_those_of_the_build(capsys):
    looked_for = []
    runtime = gpu_build(Session, cuda_version="12.8", preload_dlls=lambda: print("Failed to load it all"))
    found = find_cuda(runtime, load=looked_for.append)
    assert found.built_for == "12.8"
    assert found.driver is None
    assert {"libcuda.so.1", "libcudart.so.12", "libcublasLt.so.12", "libcudnn.so.9"} <= set(found.missing)
    assert set(looked_for) == set(found.missing)
    assert capsys.readouterr().out == ""


def test_a_driver_says_its_version_and_its_gpus():
    class Driver:
        def cuDriverGetVersion(self, version):
            version._obj.value = 12080
            return 0

        def cuInit(self, _flags):
            return 0

        def cuDeviceGetCount(self, count):
            count._obj.value = 2
            return 0

        def cuDeviceGet(self, device, index):
            device._obj.value = index
            return 0

        def cuDeviceGetName(self, name, _length, device):
            name.value = f"GPU {device.value}".encode()
            return 0

    found = find_cuda(None, load=lambda _file: Driver())
    assert (found.driver, found.devices, found.missing) == ("12.8", ("GPU 0", "GPU 1"), ())
