"""The manifest says the same after writing and reading, and takes nothing that it does not understand."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import asdict, fields, replace
from hashlib import sha256
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastspan.bundle.beside.calibrations import (
    Calibration,
    Guarantee,
    SetConfidence,
    SetCurve,
    SetCurves,
)
from fastspan.bundle.manifest import (
    FORMAT,
    Confidence,
    FileRecord,
    FittedOn,
    Graph,
    Manifest,
    Model,
    NoAnswer,
    Parity,
    Source,
    Variant,
    check_path,
)
from fastspan.errors import BundleError, ChecksumMismatch, IncompatibleBundle, InputError

DIGEST = sha256(b"data").hexdigest()
MODEL = Model(
    model_type="bert",
    route="native",
    max_positions=512,
    segment_ids=True,
    hidden_size=384,
    layers=6,
    heads=12,
    vocab_size=30522,
)
PARITY = Parity(
    reference="pytorch",
    questions=500,
    windows=612,
    max_logit_difference=3.5e-5,
    equal_answers=1.0,
    gate="logits within 1e-3",
    passed=True,
    provider="CPUExecutionProvider",
    accepted_loss=False,
)
SURE = Guarantee(precision=0.9, level=0.95, answers=100, right=97)
CURVE = SetCurve(margin=0.25, rival=-1.0, agreement=0.5, retriever=0.0, offset=-2.0)
CURVES = SetCurves(answered=CURVE, abstained=replace(CURVE, margin=-0.25))
FITTED = FittedOn(name="squad2", questions=1000, sha256=DIGEST, reported_on_questions=2000)
ANY = Graph(
    file="onnx/model.onnx",
    target="any",
    layout="padded",
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    data=("onnx/model.onnx_data",),
    opset=20,
    ir_version=10,
    note="fused",
)
CPU = replace(ANY, file="onnx/model_cpu.onnx", target="cpu", layout="exact", inputs=("input_ids",), data=())
CUDA = replace(ANY, file="onnx/model_cuda.onnx", target="cuda", layout="packed")
FP32 = Variant(name="fp32", graphs=(ANY, CPU, CUDA), parity=PARITY, target="any", bytes=1234)
SETS = SetConfidence(
    passages=10,
    threshold=-5.0,
    curves=CURVES,
    with_retriever=replace(CURVES, answered=replace(CURVE, retriever=1.0)),
    fitted_on=FITTED,
    ece=0.03,
)
MANIFEST = Manifest(
    name="minilm — ✓",
    created_with="0.1.0",
    source=Source(id="a/b", revision="abc", sha256={"model.safetensors": DIGEST}, format="safetensors"),
    model=MODEL,
    max_length=384,
    overlap=128,
    variants={"fp32": FP32},
    files={
        path: FileRecord(sha256=DIGEST, bytes=4)
        for path in ("config.json", "tokenizer.json", *FP32.files, "README.md")
    },
    no_answer=NoAnswer(threshold=-1.25, fitted_on=FITTED),
    confidence=Confidence(
        answered_scale=0.5,
        answered_offset=-1.0,
        abstained_scale=-0.25,
        abstained_offset=1e-9,
        fitted_on=FITTED,
        ece=0.02,
        tenths=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    ),
    sets=SETS,
    domains={"law": Calibration(no_answer=NoAnswer(threshold=-3.0, guarantee=SURE), sets=SETS)},
)


def sealed(document):
    """The bytes of a manifest with any content and a right digest."""
    data = json.dumps({**document, "digest": "D" * 64}).encode()
    zeros = data.replace(b"D" * 64, b"0" * 64)
    return data.replace(b"D" * 64, sha256(zeros).hexdigest().encode())


def document():
    found = json.loads(MANIFEST.to_json())
    del found["digest"]
    return found


def test_writing_and_reading_gives_the_same():
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


@pytest.mark.parametrize("tenths", [[], [1] * 9, [0] * 10, [*[1] * 9, -1]])
def test_tenths_are_ten_counts(tenths):
    found = document()
    found["confidence"]["tenths"] = tenths
    with pytest.raises(BundleError, match="tenths must be ten counts"):
        Manifest.from_json(sealed(found))


def test_what_is_absent_stays_absent():
    plain = replace(
        MANIFEST,
        confidence=None,
        no_answer=NoAnswer(),
        variants={"fp32": replace(FP32, parity=None)},
        source=replace(MANIFEST.source, revision=None),
    )
    assert Manifest.from_json(plain.to_json()) == plain


def test_a_bundle_of_the_format_before_has_neither_sets_nor_domains():
    found = {**document(), "format": "1.0"}
    del found["sets"], found["domains"], found["no_answer"]["guarantee"]
    read = Manifest.from_json(sealed(found))
    assert read == replace(MANIFEST, format="1.0", sets=None, domains={})
    assert read.calibration() == Calibration(no_answer=MANIFEST.no_answer, confidence=MANIFEST.confidence)


def test_a_domain_has_a_calibration_of_its_own():
    law = MANIFEST.calibration("law")
    assert (law.no_answer.threshold, law.confidence, law.sets) == (-3.0, None, SETS)
    with pytest.raises(InputError, match="'tax' is no domain of this bundle, which has 'law'"):
        MANIFEST.calibration("tax")
    with pytest.raises(InputError, match="which has none; fastspan calibrate --domain makes one"):
        replace(MANIFEST, domains={}).calibration("law")
    other = Calibration(no_answer=NoAnswer(threshold=1.0))
    assert MANIFEST.with_calibration("tax", other).domains == {"law": law, "tax": other}
    general = MANIFEST.with_calibration(None, other)
    assert general.calibration() == other
    assert general.domains == MANIFEST.domains


@pytest.mark.parametrize("name", ["", ".", "a b", "ä", "a/b", "a" * 65, "-a"])
def test_a_domain_needs_a_name(name):
    with pytest.raises(BundleError, match="the domain"):
        replace(MANIFEST, domains={name: Calibration()})


@pytest.mark.parametrize("wrong", [{"precision": 1.0}, {"level": 0.0}, {"right": 101}, {"right": -1}])
def test_a_guarantee_that_cannot_be(wrong):
    with pytest.raises(BundleError, match="a guarantee"):
        replace(SURE, **wrong)


def test_the_digest_is_that_of_the_file_with_zeros_in_its_place():
    data = MANIFEST.to_json()
    (digest,) = re.findall(rb'"digest": "([0-9a-f]{64})"', data)
    assert digest.decode() == sha256(data.replace(digest, b"0" * 64)).hexdigest()


def test_a_digest_of_zeros_elsewhere_does_not_confuse():
    odd = replace(MANIFEST, files={**MANIFEST.files, "README.md": FileRecord(sha256="0" * 64, bytes=1)})
    assert Manifest.from_json(odd.to_json()) == odd


@pytest.mark.parametrize("digest", [None, "", "0" * 64, "\ud800", 5, DIGEST])
def test_a_digest_that_is_absent_or_wrong(digest):
    found = document() if digest is None else {**document(), "digest": digest}
    with pytest.raises(ChecksumMismatch):
        Manifest.from_json(json.dumps(found).encode())


def test_the_document_is_plain_json_with_the_agreed_keys():
    found = json.loads(MANIFEST.to_json())
    assert list(found) == [*(field.name for field in fields(Manifest)), "digest"]
    assert found["format"] == FORMAT == "1.2"
    assert found["variants"]["fp32"]["graphs"][0]["inputs"] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
    ]
    assert found["files"]["config.json"] == {"sha256": DIGEST, "bytes": 4}


def test_numbers_that_json_lacks_are_not_written():
    with pytest.raises(BundleError, match="not finite"):
        replace(MANIFEST, no_answer=NoAnswer(threshold=float("inf"))).to_json()


def change(path, value):
    found = document()
    *inner, last = path
    place = found
    for key in inner:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return sealed(found)


GRAPH = ("variants", "fp32", "graphs", 0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("name",), KeyError, "lacks the key 'name'"),
        (("model", "heads"), KeyError, r"model lacks the key 'heads'"),
        (("colour",), "red", "has the keys"),
        (("model", "colour"), "red", r"model has the keys"),
        (("name",), 5, r"name must be a string, not 5"),
        (("max_length",), "384", r"max_length must be a whole number"),
        (("max_length",), 384.0, r"max_length must be a whole number"),
        (("max_length",), True, r"max_length must be a whole number"),
        (("model", "segment_ids"), 1, r"segment_ids must be true or false"),
        (("no_answer", "threshold"), "0", r"threshold must be a finite number"),
        (("no_answer", "threshold"), True, r"threshold must be a finite number"),
        (("no_answer", "threshold"), None, r"threshold must be a finite number"),
        (("no_answer",), None, r"no_answer must be an object"),
        (("source", "format"), "gguf", r"format must be one of 'safetensors', 'pytorch', 'flax'"),
        (("source", "format"), ["flax"], r"format must be one of"),
        (("source", "sha256"), [], r"sha256 must be an object"),
        (("source", "sha256"), {"model.safetensors": "abc"}, "64 hexadecimal digits"),
        (("files", "config.json", "sha256"), DIGEST.upper(), "64 hexadecimal digits"),
        (("files", "config.json", "bytes"), -1, "must not be negative"),
        (("files", "config.json"), KeyError, r"needs config\.json"),
        (("files", "onnx/model.onnx_data"), KeyError, r"needs onnx/model\.onnx_data"),
        (("files", "fastspan.json"), {"sha256": DIGEST, "bytes": 1}, r"lists fastspan\.json itself"),
        (("files", "a/../b"), {"sha256": DIGEST, "bytes": 1}, "no path that a bundle may list"),
        ((*GRAPH, "inputs"), "input_ids", r"graphs\[0\]\.inputs must be an array"),
        ((*GRAPH, "inputs"), ["input_ids", None], r"inputs\[1\] must be a string"),
        ((*GRAPH, "inputs"), [], "must have inputs"),
        ((*GRAPH, "layout"), "packed", "is packed, so for CUDA or the kernels"),
        ((*GRAPH, "target"), "cpu-kernels", "is for the kernels, so packed"),
        ((*GRAPH, "target"), "tpu", r"target must be one of"),
        (("variants", "fp32", "graphs", 1), asdict(ANY), "two graphs for one target in one layout"),
        ((*GRAPH, "opset"), 0, "must have an opset"),
        (("variants", "fp32", "graphs"), [], "must have a graph"),
        (("variants", "fp32", "name"), "int8", "names no such variant"),
        (("variants", "fp32", "parity", "equal_answers"), 1.5, "a share from 0 to 1"),
        (("variants", "fp32", "parity", "questions"), -1, "counts must not be negative"),
        (("variants",), {}, "there must be a variant"),
        (("model", "layers"), 0, "at least 1"),
        (("overlap",), 384, "overlap < max_length"),
        (("max_length",), 513, "max_length <= max_positions"),
        (("confidence", "ece"), KeyError, "lacks the key 'ece'"),
        (("format",), "1", "no format number"),
        (("format",), 1.0, "no format number"),
        (("format",), KeyError, "no format number"),
    ],
)
def test_what_is_not_understood_is_refused(path, value, message):
    with pytest.raises(BundleError, match=message):
        Manifest.from_json(change(path, value))


@pytest.mark.parametrize("version", ["2.0", "0.9", "10.0"])
def test_another_major_format_names_both_numbers(version):
    with pytest.raises(IncompatibleBundle, match=rf"format {re.escape(version)}, .* reads format 1\.x"):
        Manifest.from_json(json.dumps({"format": version, "what": "ever"}).encode())


def test_a_newer_minor_format_may_add_keys():
    found = document()
    found["format"] = "1.7"
    found["colour"] = {"red": 1}
    found["variants"]["fp32"]["graphs"][0]["colour"] = "red"
    assert Manifest.from_json(sealed(found)) == replace(MANIFEST, format="1.7")


def test_a_key_with_a_default_may_be_missing():
    found = document()
    del found["max_length"], found["confidence"]
    assert Manifest.from_json(sealed(found)) == replace(MANIFEST, confidence=None)


def test_a_whole_number_serves_as_a_float():
    threshold = Manifest.from_json(change(("no_answer", "threshold"), 2)).no_answer.threshold
    assert threshold == 2.0
    assert type(threshold) is float


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"1.0"',
        b"\xff\xfe{}",
        b'{"format": "1.0", "format": "1.0"}',
        b'{"format": NaN}',
        b"[" * 100_000,
        b'{"format": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_json_object(data):
    with pytest.raises(BundleError):
        Manifest.from_json(data)


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_value_in_any_place_is_read_or_refused(value):
    for path in (("model",), ("variants",), GRAPH, ("files",), ("confidence",), ("source",)):
        with contextlib.suppress(BundleError):
            Manifest.from_json(change(path, value))


def test_a_key_that_stands_twice():
    data = sealed({**document(), "twice": 1})
    data = data.replace(b'"twice": 1', b'"name": "another"')
    with pytest.raises(BundleError, match="a key stands twice"):
        Manifest.from_json(data)


def test_graphs_are_found_by_provider():
    assert FP32.graph_for("cpu") is CPU
    assert FP32.graph_for("cuda") is CUDA
    assert FP32.graph_for("other") is ANY
    assert replace(FP32, graphs=(ANY,)).graph_for("cuda") is ANY
    assert FP32.files == (ANY.file, *ANY.data, CPU.file, CUDA.file)


def test_a_target_may_have_a_graph_of_each_layout_and_packed_goes_first():
    exact = replace(CUDA, file="onnx/model_exact.onnx", layout="exact")
    for graphs in ((ANY, exact, CUDA), (CUDA, exact, ANY)):
        both = replace(FP32, graphs=graphs)
        assert both.graph_for("cuda") is CUDA
        assert both.graph_for("other") is ANY
    assert replace(FP32, graphs=(ANY, exact)).graph_for("cuda") is exact
    files = {**MANIFEST.files, exact.file: FileRecord(sha256=DIGEST, bytes=4)}
    manifest = replace(MANIFEST, variants={"fp32": both}, files=files)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_kernels_graph_is_taken_only_where_the_kernels_are():
    own = replace(CPU, file="onnx/model_kernels.onnx", target="cpu-kernels", layout="packed")
    variant = replace(FP32, graphs=(ANY, CPU, own))
    assert variant.graph_for("cpu") is CPU
    assert variant.graph_for("cpu", kernels=True) is own
    assert variant.graph_for("other", kernels=True) is ANY
    assert FP32.graph_for("cpu", kernels=True) is CPU
    only = replace(FP32, graphs=(own,))
    assert not only.runs_on("cpu")
    with pytest.raises(BundleError, match="exported for cpu-kernels only"):
        only.graph_for("cpu")


def test_the_graph_for_dot_products_comes_after_the_kernels_and_before_the_plain_one():
    twin = replace(CPU, file="onnx/model_twin.onnx", target="cpu-dot-product")
    own = replace(CPU, file="onnx/model_kernels.onnx", target="cpu-kernels", layout="packed")
    variant = replace(FP32, graphs=(ANY, CPU, twin, own))
    assert variant.graph_for("cpu") is CPU
    assert variant.graph_for("cpu", dot_product=True) is twin
    assert variant.graph_for("cpu", kernels=True, dot_product=True) is own
    assert variant.graph_for("other", dot_product=True) is ANY
    assert FP32.graph_for("cpu", dot_product=True) is CPU, "a bundle without one"
    assert not replace(FP32, graphs=(twin,)).runs_on("cpu")


def test_a_variant_without_a_graph_for_the_provider():
    only_cuda = replace(FP32, graphs=(CUDA,))
    assert only_cuda.runs_on("cuda")
    assert not only_cuda.runs_on("cpu")
    with pytest.raises(BundleError, match="exported for cuda only"):
        only_cuda.graph_for("cpu")


@settings(deadline=None)
@given(st.text())
def test_a_path_is_refused_or_stays_inside_on_every_system(path):
    try:
        check_path(path)
    except BundleError:
        return
    for kind in (PurePosixPath, PureWindowsPath):
        found = kind(path)
        assert not found.is_absolute()
        assert not found.drive
        assert ".." not in found.parts
        assert "/".join(found.parts) == path


def test_a_manifest_is_frozen():
    with pytest.raises(AttributeError):
        MANIFEST.name = "other"
