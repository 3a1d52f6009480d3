from __future__ import annotations

from types import SimpleNamespace

import pytest

from fastspan.benchmarks.speed.machine import environment
from fastspan.benchmarks.speed.machine.environment import default_variants, describe_cpu, results_folder
from fastspan.machine.cpu import CpuFeatures
from support.forced_cpu import forced_features


@pytest.mark.parametrize(("flags", "variant"), [("avx2", "fp32"), ("avx2 avx512_vnni", "int8")])
def test_the_record_says_what_runs_by_default_on_the_measured_cpu(tiny_bundle, flags, variant):
    features = CpuFeatures("x86_64", frozenset(flags.split()))
    with forced_features(features):
        found = default_variants([SimpleNamespace(name="tiny", bundle=tiny_bundle)], "cpu")
        instruction_sets = describe_cpu().instruction_sets
    assert found["tiny"].variant == variant
    assert variant in found["tiny"].reason
    assert instruction_sets == tuple(name for name in ("avx2", "avx512_vnni") if name in features.flags)


def test_each_kind_of_hardware_has_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "this_cpu_kind", lambda: "amd-zen3-avx2")
    monkeypatch.setattr(environment, "gpu_name", lambda: "NVIDIA H200, 570.10")
    assert results_folder(tmp_path, "cpu") == tmp_path / "amd-zen3-avx2"
    assert results_folder(tmp_path, "gpu") == tmp_path / "nvidia-h200"
