"""What an ONNX file says of other files is found wherever it stands, and no bytes do harm."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastspan import BundleError, QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.bundle.onnx_files import check_graph, check_graphs, read_onnx
from support.bundles.forged_bundles import forge

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402


def external(location: str) -> TensorProto:
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph_of(*nodes, initializers=(), sparse=()):
    one = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("start_logits", "end_logits")
    ]
    return helper.make_graph(
        list(nodes), "g", [one], outputs, initializer=list(initializers), sparse_initializer=list(sparse)
    )


def model_of(*nodes, functions=(), **others):
    return helper.make_model(graph_of(*nodes, **others), functions=list(functions))


def sparse(location: str):
    return helper.make_sparse_tensor(external(location), external(location), [9])


def with_attribute(value) -> object:
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(helper.make_attribute("value", value))
    return node


def function_of(node):
    return helper.make_function("own", "F", [], ["c"], [node], [helper.make_opsetid("", 20)])


def training_model(location: str):
    model = model_of()
    model.training_info.add().algorithm.initializer.append(external(location))
    return model


def attribute_of_function(location: str):
    function = function_of(helper.make_node("Constant", [], ["c"]))
    function.attribute_proto.append(helper.make_attribute("t", external(location)))
    return model_of(functions=[function])


PLACES = {
    "initializer": lambda place: model_of(initializers=[external(place)]),
    "sparse initializer": lambda place: model_of(sparse=[sparse(place)]),
    "attribute": lambda place: model_of(with_attribute(external(place))),
    "attribute of tensors": lambda place: model_of(with_attribute([external(place)])),
    "sparse attribute": lambda place: model_of(with_attribute(sparse(place))),
    "subgraph": lambda place: model_of(with_attribute(graph_of(initializers=[external(place)]))),
    "subgraphs": lambda place: model_of(with_attribute([graph_of(with_attribute(external(place)))])),
    "function": lambda place: model_of(functions=[function_of(with_attribute(external(place)))]),
    "attribute of a function": attribute_of_function,
    "training": training_model,
}


@pytest.mark.parametrize(
    "location", ["weights.data", "../../elsewhere", "/etc/passwd", ".hidden", "*/_ORT_MEM_ADDR_/*"]
)
@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_found_wherever_a_tensor_may_stand(place: str, location: str) -> None:
    assert read_onnx(PLACES[place](location).SerializeToString(), "a.onnx").locations == (location,)


def test_a_tensor_outside_its_initializers_stays_in_the_file(tiny_bundle: Path) -> None:
    model = onnx.load(tiny_bundle / "onnx/model.onnx", load_external_data=False)
    found = read_onnx(model.SerializeToString(), "model.onnx")
    assert found.locations == ("model.onnx_data",)
    assert found.inputs == tuple(value.name for value in model.graph.input)
    assert found.outputs == ("start_logits", "end_logits")
    assert read_onnx(model_of().SerializeToString(), "a.onnx").locations == ()


def test_an_input_with_a_value_of_its_own_is_none(tiny_bundle: Path) -> None:
    value = helper.make_tensor("x", TensorProto.FLOAT, [1], [1.0])
    assert read_onnx(model_of(initializers=[value]).SerializeToString(), "a.onnx").inputs == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00\x00\x00\x00ORTM\x00", "own format"),
        (
            model_of(helper.make_node("EPContext", [], ["c"], domain="com.microsoft")).SerializeToString(),
            "compiled",
        ),
        (b"\x3a", "ends within a number"),
        (b"\x3a\x05ab", "does not fit"),
        (b"\x38\x05", "wrong kind"),
        (b"\x3b\x3c", "unknown kind"),
        (b"\x00\x01", "does not fit"),
        (b"\xff" * 20, "ends within a number"),
        # Tag 7 with a bit above the 32 that a parser keeps.
        (b"\xba\x80\x80\x80\x80\x01\x00", "does not fit"),
    ],
)
def test_what_is_no_onnx_model(data: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=f"a.onnx is no ONNX file that a bundle may hold .*{message}"):
        read_onnx(data, "a.onnx")


def test_graphs_that_nest_without_end_are_refused() -> None:
    model = b""
    for _ in range(2000):
        model = b"\x32" + _length(model) + model  # attribute.g
        model = b"\x2a" + _length(model) + model  # node.attribute
        model = b"\x0a" + _length(model) + model  # graph.node
    with pytest.raises(BundleError, match="nest too deeply"):
        read_onnx(b"\x3a" + _length(model) + model, "a.onnx")


def _length(data: bytes) -> bytes:
    count, out = len(data), b""
    while count > 127:
        out += bytes([count & 127 | 128])
        count >>= 7
    return out + bytes([count])


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(BundleError):
        read_onnx(data, "a.onnx")


WHOLE = model_of(
    with_attribute(graph_of(with_attribute(external("inner")), sparse=[sparse("sparse")])),
    functions=[function_of(with_attribute(external("function")))],
    initializers=[external("outer")],
).SerializeToString()


@settings(max_examples=500, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    end=st.integers(0, len(WHOLE)),
)
def test_whatever_protobuf_still_reads_keeps_no_location_hidden(
    changes: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(WHOLE)
    for position, byte in changes:
        data[position] = byte
    changed = bytes(data[: end or None])
    try:
        found = set(read_onnx(changed, "a.onnx").locations)
    except BundleError:
        return
    model = onnx.ModelProto()
    try:
        model.ParseFromString(changed)
    except Exception:
        return
    assert all_locations(model) <= found


def all_locations(message: object) -> set[str]:
    """What protobuf's own reflection finds, in any field of any message."""
    if isinstance(message, TensorProto):
        return {entry.value for entry in message.external_data if entry.key == "location"}
    found: set[str] = set()
    for field, value in message.ListFields():  # type: ignore[attr-defined]
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                found |= all_locations(inner)
    return found


def pointed_elsewhere(bundle: Path, location: str) -> bytes:
    model = onnx.load(bundle / "onnx/model_cpu.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize(
    "location", ["../../elsewhere", ".hidden", "model_int8.onnx_data", "./model.onnx_data"]
)
def test_a_bundle_whose_graph_reads_another_file(tiny_bundle: Path, tmp_path: Path, location: str) -> None:
    graph = pointed_elsewhere(tiny_bundle, location)
    folder = forge(tiny_bundle, tmp_path / "a" / "model", {"onnx/model_cpu.onnx": graph})
    for place in (tmp_path / "a" / "elsewhere", folder / "onnx" / ".hidden"):
        shutil.copyfile(tiny_bundle / "onnx/model.onnx_data", place)
    with pytest.raises(BundleError, match=r"reads its weights from .*, which the manifest does not list"):
        QuestionAnswerer.load(folder, variant="fp32")
    with pytest.raises(BundleError, match="reads its weights from"):
        check_graphs(folder, Bundle.open(folder).manifest.variants)


def test_the_graphs_of_a_bundle_as_it_was_exported(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    check_graphs(tiny_bundle, bundle.manifest.variants)
    for variant in bundle.manifest.variants.values():
        for graph in variant.graphs:
            data = (tiny_bundle / graph.file).read_bytes()
            assert set(check_graph(data, graph).values()) == set(graph.data)


def test_a_graph_that_gives_no_logits(tiny_bundle: Path, tmp_path: Path) -> None:
    data = (tiny_bundle / "onnx/model_cpu.onnx").read_bytes().replace(b"start_logits", b"start_logitz")
    folder = forge(tiny_bundle, tmp_path / "model", {"onnx/model_cpu.onnx": data})
    with pytest.raises(BundleError, match="gives the outputs start_logitz, end_logits, not start_logits"):
        QuestionAnswerer.load(folder, variant="fp32")
