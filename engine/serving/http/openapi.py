"""What the routes take and give, as OpenAPI; and a page of it that fetches nothing from elsewhere."""

from __future__ import annotations

import html
from dataclasses import fields
from typing import Any

from fastspan.decoding.pipeline_parameters import PIPELINE_NAMES
from fastspan.options import AnswerOptions
from fastspan.serving.protocols.reading import READ_OPTIONS

__all__ = ["document", "page"]

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_NUMBER = {"type": "number"}
_FLAG = {"type": "boolean"}
_TYPES = {
    "int": _WHOLE,
    "float": _NUMBER,
    "bool": _FLAG,
    "str": _TEXT,
    "Decoding": {"enum": ["squad", "pipeline"]},
}
_SPAN = {
    "type": "object",
    "properties": {"text": _TEXT, "start": _WHOLE, "end": _WHOLE, "score": _NUMBER},
}
_ERROR = {
    "type": "object",
    "required": ["error", "error_type"],
    "properties": {"error": _TEXT, "error_type": _TEXT},
}
_PAIR = {
    "type": "object",
    "required": ["question", "context"],
    "properties": {"question": _TEXT, "context": _TEXT},
}
_PIPELINE = {
    "type": "object",
    "required": ["score", "start", "end", "answer"],
    "properties": {"score": _NUMBER, "start": _WHOLE, "end": _WHOLE, "answer": _TEXT},
}
_FLAGS = {"handle_impossible_answer", "align_to_words"}
_PARAMETERS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {name: _FLAG if name in _FLAGS else _WHOLE for name in PIPELINE_NAMES},
}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "additionalProperties": False,
        "properties": {**required, **(optional or {})},
    }


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _either(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": list(schemas)}


def _options() -> dict[str, Any]:
    found = {}
    for option in fields(AnswerOptions):
        kind, _, none = str(option.type).partition(" | ")
        schema = _TYPES[kind]
        found[option.name] = {"anyOf": [schema, {"type": "null"}]} if none else schema
    return found


_PREDICTION = {
    "type": "object",
    "properties": {
        "answer": {"anyOf": [_SPAN, {"type": "null"}]},
        "answers": _array(_SPAN),
        "confidence": {"anyOf": [_NUMBER, {"type": "null"}]},
        "null_score": _NUMBER,
        "best_span_score": {"anyOf": [_NUMBER, {"type": "null"}]},
    },
}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": _TEXT,
        "shape": _array(_WHOLE),
        "datatype": {"enum": ["BYTES"]},
        "data": _array({}),
        "parameters": {"type": "object"},
    },
}
_BODIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "native": (
        "A question and a context, or arrays of them, with any field of AnswerOptions.",
        _object(
            {"question": _either(_TEXT, _array(_TEXT)), "context": _either(_TEXT, _array(_TEXT))},
            {**_options(), "timings": _FLAG},
        ),
        _either(_PREDICTION, {"type": "object", "properties": {"predictions": _array(_PREDICTION)}}),
    ),
    "reading": (
        "A question and many passages, read as a set, with the options of read.",
        _object(
            {
                "question": _TEXT,
                "passages": _array(_either(_TEXT, _object({"text": _TEXT}, {"id": _either(_TEXT, _WHOLE)}))),
            },
            {
                "retriever_scores": _array(_NUMBER),
                **{name: schema for name, schema in _options().items() if name in READ_OPTIONS},
            },
        ),
        {
            "type": "object",
            "properties": {
                "answer": {"anyOf": [{"type": "object"}, {"type": "null"}]},
                "answers": _array({"type": "object"}),
                "confidence": {"anyOf": [_NUMBER, {"type": "null"}]},
            },
        },
    ),
    "hugging_face": (
        "Hugging Face's question-answering protocol.",
        _object({"inputs": _either(_PAIR, _array(_PAIR))}, {"parameters": _PARAMETERS}),
        _either(_PIPELINE, _array(_PIPELINE), _array(_array(_PIPELINE))),
    ),
    "open_inference": (
        "The Open Inference Protocol, version 2: BYTES tensors question and context.",
        _object(
            {"inputs": _array(_TENSOR)},
            {"id": _TEXT, "parameters": {"type": "object"}, "outputs": _array({"type": "object"})},
        ),
        {"type": "object", "properties": {"outputs": _array(_TENSOR)}},
    ),
    "sagemaker": (
        "SageMaker: Hugging Face's JSON, or lines of question and context as text/csv.",
        _object({"inputs": _either(_PAIR, _array(_PAIR))}, {"parameters": _PARAMETERS}),
        _either(_PIPELINE, _array(_PIPELINE), _array(_array(_PIPELINE))),
    ),
    "vertex": (
        "Vertex AI.",
        _object({"instances": _array(_PAIR)}, {"parameters": _PARAMETERS}),
        {"type": "object", "properties": {"predictions": _array({})}},
    ),
    "txtai": (
        "txtai: questions over texts that come along.",
        _object(
            {
                "queue": _array(
                    _object({"question": _TEXT}, {"name": _TEXT, "query": _TEXT, "snippet": _FLAG})
                ),
                "texts": _array(_TEXT),
            }
        ),
        _array({"type": "object", "properties": {"name": _TEXT, "answer": _TEXT}}),
    ),
}
_PROBES = {
    "/": "A page to ask from, for browsers; JSON for programs.",
    "/health": "200 while the process serves.",
    "/ready": "200 while requests are welcome, else 503.",
    "/info": "Variants, providers, limits and versions.",
    "/metrics": "Metrics in Prometheus's text format.",
    "/v2": "The Open Inference Protocol's server metadata.",
}


def document(routes: dict[str, str], version: str, *, keyed: bool) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        routes: The protocol of each route that answers.
        version: FastSpan's version.
        keyed: Whether the routes that answer need a key.
    """
    paths: dict[str, Any] = {
        path: _answering(protocol, path, keyed=keyed) for path, protocol in routes.items()
    }
    for path, summary in _PROBES.items():
        paths.setdefault(path, {})["get"] = {
            "summary": summary,
            "responses": {"200": {"description": "Well."}},
        }
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "FastSpan", "version": version},
        "paths": paths,
    }
    if keyed:
        found["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
    return found


def _answering(protocol: str, path: str, *, keyed: bool) -> dict[str, Any]:
    summary, asked, given = _BODIES[protocol]
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    operation: dict[str, Any] = {
        "summary": summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names),
            {
                "name": "X-Request-Timeout-Ms",
                "in": "header",
                "schema": {"type": "integer", "minimum": 1},
                "description": "How long this request may take, in milliseconds.",
            },
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": {
            "200": {"description": "The answers.", "content": {"application/json": {"schema": given}}},
            "default": {
                "description": "A sentence for people and a word for programs.",
                "content": {"application/json": {"schema": _ERROR}},
            },
        },
    }
    if keyed:
        operation["security"] = [{"key": []}]
    return {"post": operation}


def page(found: dict[str, Any]) -> str:
    """Return the document as a page of plain HTML."""
    rows = []
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema", {})
            takes = ", ".join(schema.get("properties", {}))
            rows.append(
                f"<tr><td><code>{method.upper()} {html.escape(path)}</code></td>"
                f"<td>{html.escape(operation['summary'])}</td><td>{html.escape(takes)}</td></tr>"
            )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>FastSpan</title>'
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.4rem .6rem;"
        "text-align:left;vertical-align:top}code{overflow-wrap:anywhere}td:first-child{min-width:12rem}</style>"
        f"<h1>FastSpan {html.escape(found['info']['version'])}</h1>"
        '<p>What every route takes and gives stands in <a href="openapi.json">openapi.json</a>.</p>'
        "<table><tr><th>Route</th><th>What it is</th><th>Keys of the body</th></tr>"
        f"{''.join(rows)}</table></html>"
    )
