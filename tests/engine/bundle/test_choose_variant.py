"""The variant that suits the machine is taken, or the next best, and the reason can be read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastspan.bundle.choose_variant import choose_variant, preferred_variants
from fastspan.bundle.manifest import Parity
from fastspan.errors import BundleError
from fastspan.machine.cpu import CpuFeatures
from support.bundles.tiny_manifest import tiny_graph, tiny_manifest, tiny_variant

VNNI = CpuFeatures("x86_64", frozenset({"avx2", "avx512_vnni"}))
AVX_VNNI = CpuFeatures("x86_64", frozenset({"avx2", "avx_vnni"}))
AVX2 = CpuFeatures("x86_64", frozenset({"avx2"}))
ARM = CpuFeatures("arm64", frozenset({"asimddp"}))
OLD_ARM = CpuFeatures("arm64", frozenset({"asimd"}))
UNKNOWN = CpuFeatures("riscv64", frozenset({"avx512_vnni", "asimddp"}))


def variant(name, *targets):
    return tiny_variant(
        name, *(tiny_graph(f"onnx/{name}_{target}.onnx", target) for target in targets or ("any",))
    )


ALL = tiny_manifest(variant("fp32"), variant("fp16"), variant("int8"))


@pytest.mark.parametrize(
    ("provider", "cpu", "name", "because"),
    [
        ("cuda", AVX2, "fp16", "CUDA"),
        ("cuda", VNNI, "fp16", "CUDA"),
        ("cpu", VNNI, "int8", "avx512_vnni"),
        ("cpu", AVX_VNNI, "int8", "avx_vnni"),
        ("cpu", ARM, "int8", "asimddp"),
        ("cpu", AVX2, "fp32", "x86_64"),
        ("cpu", OLD_ARM, "fp32", "arm64"),
        ("cpu", UNKNOWN, "fp32", "riscv64"),
        ("other", VNNI, "fp32", "every provider"),
    ],
)
def test_auto_takes_what_suits(provider, cpu, name, because):
    choice = choose_variant(ALL, "auto", provider, cpu)
    assert choice.variant is ALL.variants[name]
    assert choice.reason.startswith(f"{name}, because ")
    assert because in choice.reason
    order, why = preferred_variants(provider, cpu)
    assert choice.reason == f"{order[0]}, because {why}."
    assert sorted(order) == ["fp16", "fp32", "int8"]
    assert choice.reason.endswith(".")


@pytest.mark.parametrize(
    ("cpu", "kernels", "targets", "name"),
    [
        (AVX2, "avx2", ("cpu", "cpu-kernels"), "int8"),
        (AVX2, "avx2", ("cpu",), "fp32"),
        (AVX2, "portable", ("cpu", "cpu-kernels"), "fp32"),
        (AVX2, "", ("cpu", "cpu-kernels"), "fp32"),
        (VNNI, "", ("cpu", "cpu-kernels"), "int8"),
        (UNKNOWN, "neondot", ("cpu", "cpu-kernels"), "int8"),
    ],
)
def test_auto_takes_int8_where_the_kernels_run_a_graph_of_it(cpu, kernels, targets, name):
    layouts = {"cpu": "exact", "cpu-kernels": "packed"}
    int8 = tiny_variant("int8", *(tiny_graph(f"onnx/{t}.onnx", t, layout=layouts[t]) for t in targets))
    manifest = tiny_manifest(variant("fp32"), int8)
    assert choose_variant(manifest, "auto", "cpu", cpu, kernels).variant.name == name
    assert int8.graph_for("cpu").target == "cpu"
    assert int8.graph_for("cpu", kernels=True).target == targets[-1]


@pytest.mark.parametrize(
    ("provider", "cpu", "held", "name", "reason"),
    [
        (
            "cuda",
            AVX2,
            ["int8", "fp32"],
            "fp32",
            "fp32 instead of fp16 (fp16 is the fastest on CUDA): fp16 is not in",
        ),
        ("cuda", AVX2, ["int8"], "int8", "fp16 is not in the bundle; fp32 is not in the bundle."),
        ("cpu", VNNI, ["fp16", "fp32"], "fp32", "fp32 instead of int8"),
        ("cpu", AVX2, ["int8", "fp16"], "fp16", "fp16 instead of fp32"),
        ("cpu", AVX2, ["int8"], "int8", "int8 instead of fp32"),
    ],
)
def test_auto_falls_to_what_the_bundle_has(provider, cpu, held, name, reason):
    choice = choose_variant(tiny_manifest(*map(variant, held)), "auto", provider, cpu)
    assert choice.variant.name == name
    assert reason in choice.reason


def test_auto_passes_over_a_variant_made_for_another_provider():
    choice = choose_variant(tiny_manifest(variant("fp32"), variant("int8", "cuda")), "auto", "cpu", VNNI)
    assert choice.variant.name == "fp32"
    assert "int8 has no graph for cpu" in choice.reason


@pytest.mark.parametrize(("accepted", "name"), [(False, "fp32"), (True, "int8")])
def test_auto_passes_over_a_variant_that_missed_its_gate_unless_that_was_accepted(accepted, name):
    parity = Parity(
        reference="fp32",
        questions=100,
        windows=100,
        max_logit_difference=9.0,
        equal_answers=0.5,
        gate="",
        passed=False,
        provider="CPUExecutionProvider",
        accepted_loss=accepted,
    )
    held = tiny_manifest(variant("fp32"), replace(variant("int8"), parity=parity))
    assert choose_variant(held, "auto", "cpu", VNNI).variant.name == name
    assert choose_variant(held, "int8", "cpu", VNNI).variant.name == "int8"


def test_nothing_suits():
    with pytest.raises(
        BundleError, match=r"No variant suits the other provider: .*fp16 has no graph for other"
    ):
        choose_variant(tiny_manifest(variant("fp16", "cuda")), "auto", "other", AVX2)


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8"])
def test_a_requested_variant_is_what_comes(name):
    choice = choose_variant(ALL, name, "cpu", AVX2)
    assert choice.variant.name == name
    assert choice.reason == f"{name} was asked for."


@pytest.mark.parametrize("name", ["int8", "fp64", "", "AUTO"])
def test_a_requested_variant_that_is_not_there_names_those_that_are(name):
    with pytest.raises(BundleError, match=f"no variant '{name}'; it holds fp32, fp16"):
        choose_variant(tiny_manifest(variant("fp32"), variant("fp16")), name, "cpu", VNNI)


def test_a_requested_variant_for_another_provider():
    with pytest.raises(BundleError, match="exported for cuda only"):
        choose_variant(tiny_manifest(variant("fp32"), variant("fp16", "cuda")), "fp16", "cpu", VNNI)
