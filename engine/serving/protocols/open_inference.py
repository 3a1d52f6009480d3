"""The Open Inference Protocol, version 2, as Triton, KServe and MLServer speak it over HTTP.

Inputs are two BYTES tensors, ``question`` and ``context``, of shape ``[n]`` or ``[n, 1]``; the output is one,
``output``, of shape ``[n, 1]``, whose elements are JSON as MLServer's Hugging Face runtime writes it. Tensors
may lie behind the JSON as bytes: the extension that Triton calls ``binary_tensor_data``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastspan.decoding.pipeline_parameters import in_pipeline_names
from fastspan.errors import InputError
from fastspan.results import Info, Prediction
from fastspan.serving.protocols.asked import Asked, Incoming, Reply, Times, json_reply
from fastspan.serving.protocols.hugging_face import as_pipeline, pipeline_options
from fastspan.serving.protocols.request_body import TEXTS, check_keys, json_object, parse_body

__all__ = ["OUTPUT", "ask_as_open_inference", "model_metadata", "server_metadata"]

OUTPUT = "output"

_HEADER_LENGTH = "inference-header-content-length"
_LENGTH = struct.Struct("<I")


def ask_as_open_inference(incoming: Incoming, info: Info) -> Asked:
    """Read a request to ``/v2/models/…/infer``, for ``pipeline`` decoding.

    ``parameters`` may hold those of Hugging Face's pipeline.

    Raises:
        MalformedBodyError: The JSON is none.
        InputError: A tensor or a parameter is missing, unknown or unusable.
    """
    text, binary = _split(incoming)
    request = json_object(parse_body(text), "the body")
    check_keys(request, "the body", required=("inputs",), optional=("id", "parameters", "outputs"))
    parameters = dict(_object_or_none(request.get("parameters"), "parameters"))
    wanted = _Wanted.of(request.get("outputs"), parameters.pop("binary_data_output", False))
    tensors = _tensors(request["inputs"], binary)
    questions, contexts = (tensors[name] for name in TEXTS)
    if len(questions) != len(contexts):
        raise InputError(f"question has {len(questions)} elements and context {len(contexts)}: send as many.")
    options = pipeline_options(parameters, info)
    head: dict[str, Any] = {"model_name": info.name, "model_version": "1"}
    if request.get("id") is not None:
        head["id"] = request["id"]

    def form(predictions: Sequence[Prediction], _: Times) -> Reply:
        elements = [json_reply(as_pipeline(one, options.top_k)).body for one in predictions]
        return wanted.reply(head, elements)

    return Asked(
        pairs=list(zip(questions, contexts, strict=True)),
        options=options,
        form=form,
        rename=in_pipeline_names,
    )


def server_metadata(version: str) -> dict[str, Any]:
    """Return what ``GET /v2`` says."""
    return {"name": "fastspan", "version": version, "extensions": ["binary_tensor_data"]}


def model_metadata(name: str) -> dict[str, Any]:
    """Return what ``GET /v2/models/NAME`` says."""
    return {
        "name": name,
        "versions": ["1"],
        "platform": "fastspan",
        "inputs": [{"name": text, "datatype": "BYTES", "shape": [-1]} for text in TEXTS],
        "outputs": [{"name": OUTPUT, "datatype": "BYTES", "shape": [-1, 1]}],
    }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Whether the output is to lie behind the JSON as bytes."""

    binary: bool

    @classmethod
    def of(cls, outputs: object, default: object) -> _Wanted:
        """Read what a request says of its outputs, and of binary ones in general."""
        if not isinstance(default, bool):
            raise InputError("binary_data_output must be true or false.")
        if outputs is None:
            return cls(default)
        binary = default
        for value in _array(outputs, "outputs"):
            output = json_object(value, "an output")
            check_keys(output, "an output", required=("name",), optional=("parameters",))
            if output["name"] != OUTPUT:
                raise InputError(
                    f"There is one output, {OUTPUT!r}; {str(output['name'])[:80]!r} was asked for."
                )
            given = _object_or_none(output.get("parameters"), "an output's parameters")
            check_keys(given, "an output's parameters", optional=("binary_data",))
            binary = given.get("binary_data", binary)
            if not isinstance(binary, bool):
                raise InputError("binary_data must be true or false.")
        return cls(binary)

    def reply(self, head: Mapping[str, Any], elements: Sequence[bytes]) -> Reply:
        """Return the elements of the one output, within the JSON or as bytes behind it."""
        output: dict[str, Any] = {
            "name": OUTPUT,
            "shape": [len(elements), 1],
            "datatype": "BYTES",
            "parameters": {"content_type": "hg_jsonlist"},
        }
        if not self.binary:
            output["data"] = [element.decode() for element in elements]
            return json_reply({**head, "outputs": [output]})
        behind = b"".join(_LENGTH.pack(len(element)) + element for element in elements)
        output["parameters"]["binary_data_size"] = len(behind)
        text = json_reply({**head, "outputs": [output]}).body
        return Reply(
            body=text + behind,
            media_type="application/octet-stream",
            headers={_HEADER_LENGTH: str(len(text))},
        )


def _split(incoming: Incoming) -> tuple[bytes, bytes]:
    """The JSON of a body, and what lies behind it."""
    declared = incoming.headers.get(_HEADER_LENGTH)
    if declared is None:
        return incoming.body, b""
    length = int(declared[:20]) if declared.isascii() and declared.isdecimal() else -1
    if not 0 <= length <= len(incoming.body):
        raise InputError("Inference-Header-Content-Length must be a number of bytes within the body.")
    return incoming.body[:length], incoming.body[length:]


def _tensors(inputs: object, binary: bytes) -> dict[str, list[str]]:
    """The elements of each input tensor."""
    found: dict[str, list[str]] = {}
    at = 0
    for value in _array(inputs, "inputs"):
        tensor = json_object(value, "an input")
        check_keys(
            tensor, "an input", required=("name", "shape", "datatype"), optional=("data", "parameters")
        )
        name = tensor["name"]
        if name not in TEXTS or name in found:
            raise InputError(f"inputs must be {' and '.join(TEXTS)}, each once, not {str(name)[:80]!r}.")
        if tensor["datatype"] != "BYTES":
            raise InputError(f"{name} must have the datatype BYTES, not {str(tensor['datatype'])[:80]!r}.")
        size = _object_or_none(tensor.get("parameters"), f"the parameters of {name}").get("binary_data_size")
        if size is None:
            elements = [_text(element, name) for element in _flat(tensor.get("data"), name)]
        else:
            if "data" in tensor:
                raise InputError(f"{name} has data and a binary_data_size: leave one out.")
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(binary) - at:
                raise InputError(f"binary_data_size of {name} is not a number of bytes within the body.")
            elements = _unpacked(binary[at : at + size], name)
            at += size
        _check_shape(tensor["shape"], len(elements), name)
        found[name] = elements
    if at != len(binary):
        raise InputError(f"{len(binary) - at} bytes behind the JSON belong to no tensor.")
    if missing := [name for name in TEXTS if name not in found]:
        raise InputError(f"inputs lacks {' and '.join(missing)}.")
    return found


def _check_shape(shape: object, count: int, name: str) -> None:
    sizes = _array(shape, f"the shape of {name}")
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    if not whole or sizes not in ([count], [count, 1]) or not count:
        raise InputError(f"{name} must have the shape [n] or [n, 1] and n elements, at least one.")


def _flat(data: object, name: str) -> list[Any]:
    """Elements of a tensor, which may be nested in rows of one."""
    found: list[Any] = []
    for element in _array(data, f"the data of {name}"):
        found += element if isinstance(element, list) else [element]
    return found


def _unpacked(binary: bytes, name: str) -> list[str]:
    found = []
    at = 0
    while at < len(binary):
        if at + _LENGTH.size > len(binary):
            raise InputError(f"The bytes of {name} end within a length.")
        (length,) = _LENGTH.unpack_from(binary, at)
        at += _LENGTH.size
        if at + length > len(binary):
            raise InputError(f"The bytes of {name} end within an element.")
        found.append(_decoded(binary[at : at + length], name))
        at += length
    return found


def _decoded(element: bytes, name: str) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 ({error}).") from error


def _text(element: object, name: str) -> str:
    if not isinstance(element, str):
        raise InputError(f"The elements of {name} must be strings.")
    return element


def _array(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{name} must be an array.")
    return value


def _object_or_none(value: object, name: str) -> dict[str, Any]:
    return {} if value is None else json_object(value, name)
