from __future__ import annotations

import pytest

from fastspan.benchmarks.reporting.cpu_kind import cpu_kind, device_kind, this_cpu_kind
from fastspan.machine.cpu import CpuFeatures

SERVER = "avx2 avx512f avx512bw avx512_vnni avx512_bf16"


@pytest.mark.parametrize(
    ("machine", "flags", "described", "kind"),
    [
        ("x86_64", "avx2 fma", "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t: 1", "amd-zen3-avx2"),
        ("x86_64", "avx2", "vendor_id : AuthenticAMD\ncpu family : 23\nmodel : 49", "amd-zen2-avx2"),
        ("x86_64", "avx2", "vendor_id : AuthenticAMD\ncpu family : 23\nmodel : 1", "amd-zen-avx2"),
        (
            "x86_64",
            SERVER,
            "vendor_id : AuthenticAMD\ncpu family : 25\nmodel : 17",
            "amd-zen4-avx512-vnni-bf16",
        ),
        (
            "x86_64",
            SERVER,
            "vendor_id : AuthenticAMD\ncpu family : 26\nmodel : 2",
            "amd-zen5-avx512-vnni-bf16",
        ),
        ("x86_64", f"{SERVER} amx_int8", "vendor_id : GenuineIntel", "intel-avx512-vnni-amx"),
        ("x86_64", "avx2 avx_vnni", "vendor_id : GenuineIntel\nmodel : x", "intel-avx2-vnni"),
        ("x86_64", "sse4_2", "", "x86_64-no-avx2"),
        ("arm64", "asimd asimddp i8mm bf16 sve", "CPU implementer : 0x41", "arm-dotprod-i8mm-bf16-sve"),
        ("arm64", "asimd", "CPU implementer : 0x41", "arm-no-dotprod"),
        ("arm64", "asimddp", "vendor_id: Apple M2", "apple-dotprod"),
        ("riscv64", "", "", "riscv64-no-avx2"),
    ],
)
def test_a_kind_is_maker_generation_and_instruction_sets(machine, flags, described, kind):
    assert cpu_kind(CpuFeatures(machine, frozenset(flags.split())), described) == kind


def test_this_machine_has_a_kind_that_names_a_folder(tmp_path):
    assert this_cpu_kind().replace("-", "").replace("_", "").isalnum()
    # Where the system describes no CPU, there is a kind all the same.
    assert this_cpu_kind(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H200, 570.10", "nvidia-h200"),
        ("NVIDIA H100 80GB HBM3, 570", "nvidia-h100-80gb-hbm3"),
        ("", "gpu"),
    ],
)
def test_a_gpus_kind_is_its_name(name, kind):
    assert device_kind(name) == kind
