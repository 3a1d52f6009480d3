"""Instruction sets and CPU quotas, read from files as various machines show them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from fastspan.machine import cpu
from fastspan.machine.cpu import CpuFeatures
from support.forced_cpu import true_cpu_features as cpu_features
from support.forced_cpu import true_usable_cores as usable_cores

XEON = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f avx512_vnni\nbugs\t: spectre\n"
ALDER_LAKE = "flags\t\t: fpu avx2 avx_vnni\n"
HASWELL = "flags\t\t: fpu avx avx2\n"
# The name of another instruction set within a longer word is not the instruction set.
LOOKALIKE = "flags\t\t: fpu not_avx512_vnni avx_vnni_int16\n"
GRAVITON = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd aes asimddp sve\nCPU part\t: 0xd40\n"
OLD_ARM = "processor\t: 0\nFeatures\t: fp asimd aes\n"


@pytest.mark.skipif(sys.platform == "darwin", reason="reads what Linux shows")
@pytest.mark.parametrize(
    ("machine", "text", "named", "found"),
    [
        ("x86_64", XEON, "x86_64", "avx512_vnni"),
        ("x86_64", ALDER_LAKE, "x86_64", "avx_vnni"),
        ("x86_64", HASWELL, "x86_64", None),
        ("x86_64", LOOKALIKE, "x86_64", None),
        ("aarch64", GRAVITON, "arm64", "asimddp"),
        ("aarch64", OLD_ARM, "arm64", None),
        ("AMD64", "", "x86_64", None),
        ("ARM64", "", "arm64", None),
        ("riscv64", XEON, "riscv64", None),
        ("", "flags", "", None),
    ],
)
def test_int8_dot_product(monkeypatch, tmp_path, machine, text, named, found):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    (tmp_path / "cpuinfo").write_text(text)
    features = cpu_features(cpuinfo=tmp_path / "cpuinfo")
    assert features.machine == named
    assert features.int8_dot_product == found


def test_a_machine_without_cpuinfo_has_no_known_flags(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    assert cpu_features(cpuinfo=tmp_path / "nothing") == CpuFeatures("x86_64", frozenset())


def test_every_apple_cpu_has_the_dot_product(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert cpu_features().int8_dot_product == "asimddp"


@pytest.mark.parametrize(
    ("answer", "found"),
    [("AVX2 AVX512F AVX512VNNI\n", "avx512_vnni"), ("AVX2 BMI2\n", None), (None, None)],
)
def test_an_intel_mac_is_asked(monkeypatch, answer, found):
    def run(command, **options):
        if answer is None:
            raise subprocess.CalledProcessError(1, command)
        return subprocess.CompletedProcess(command, 0, stdout=answer)

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(subprocess, "run", run)
    assert cpu_features().int8_dot_product == found


def test_this_machine_can_be_asked():
    assert cpu_features().machine
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.fixture
def cores(monkeypatch, tmp_path):
    """``usable_cores`` of a process on 16 CPUs, with the membership and the files of a cgroup mount given."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda process: set(range(16)), raising=False)

    def ask(membership, files):
        (tmp_path / "cgroup").write_text(membership)
        for path, text in files.items():
            (tmp_path / "mount" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "mount" / path).write_text(text)
        return usable_cores(membership=tmp_path / "cgroup", mount=tmp_path / "mount")

    return ask


V1 = "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("", {}, 16),
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 16),
        ("0::/a/b\n", {"a/b/cpu.max": "800000 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "max 100000\n"}, 2),
        ("0::/host/path\n", {"cpu.max": "500000 100000\n"}, 5),
        ("0::/../../other\n", {"cpu.max": "500000 100000\n"}, 5),
        ("0::/\n", {"cpu.max": "nonsense\n"}, 16),
        ("0::/\n", {"cpu.max": "100000 0\n"}, 16),
        ("0::/\n", {"cpu.max": ""}, 16),
        ("garbage\n\n:::\n", {}, 16),
        (
            V1,
            {"cpu/docker/abc/cpu.cfs_quota_us": "300000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "-1\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, 16),
        (V1, {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 3),
        (V1, {"memory/docker/abc/cpu.cfs_quota_us": "100000\n"}, 16),
    ],
)
def test_the_quota_bounds_the_cores(cores, membership, files, expected):
    assert cores(membership, files) == expected


def test_the_affinity_bounds_the_cores(cores, monkeypatch):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda process: {3, 7}, raising=False)
    assert cores("0::/\n", {"cpu.max": "800000 100000\n"}) == 2


@pytest.mark.parametrize(("count", "expected"), [(6, 6), (None, 1)])
def test_elsewhere_the_cores_are_counted(monkeypatch, tmp_path, count, expected):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cores(membership=tmp_path / "nothing", mount=tmp_path) == expected
