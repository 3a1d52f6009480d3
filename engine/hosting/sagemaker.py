"""Amazon SageMaker: the four functions that ``code/inference.py`` has to give.

The inference toolkit calls ``model_fn`` once, then for each request ``input_fn``, ``predict_fn`` and
``output_fn``. JSON is Hugging Face's protocol. CSV has the columns ``question`` and ``context`` and a header;
as batch transform wants it, the answer has a line for each line. A request that is unusable becomes status
400, where the toolkit is there to say so.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastspan.errors import InputError
from fastspan.hosting.questions import Hosted, load_hosted
from fastspan.serving.protocols.request_body import TEXTS, parse_body

__all__ = ["Asked", "input_fn", "model_fn", "output_fn", "predict_fn"]

JSON, CSV = "application/json", "text/csv"
_COLUMNS = ("answer", "score", "start", "end")
# A cell may hold a whole article; the module's own limit is 131,072 characters.
_LARGEST_CELL = 1 << 24


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read.

    Attributes:
        request: As JSON has it, ``{"inputs": …, "parameters": …}``.
    """

    request: object


def model_fn(model_dir: str, _context: object = None) -> Hosted:
    """Load the bundle of a model's archive.

    Args:
        model_dir: The folder that the archive was unpacked to.

    Raises:
        BundleError: It holds no bundle, or a damaged one.
    """
    return load_hosted(model_dir)


def input_fn(body: bytes | str, content_type: str = JSON, _context: object = None) -> Asked:
    """Read a request.

    Raises:
        InputError: It is of another type, or not what its type says.
    """
    with _telling_the_toolkit():
        kind = _kind(content_type)
        data = body.encode() if isinstance(body, str) else bytes(body)
        if kind == JSON:
            return Asked(parse_body(data))
        if kind == CSV:
            return Asked({"inputs": _rows(data)})
        raise InputError(f"The content type must be {JSON} or {CSV}, not {content_type!r}.")


def predict_fn(asked: Asked, model: Hosted, _context: object = None) -> Any:
    """Answer what was read.

    Raises:
        InputError: A question, a context or a parameter is unusable.
    """
    with _telling_the_toolkit():
        return model.answer(asked.request)


def output_fn(prediction: Any, accept: str = JSON, _context: object = None) -> tuple[str, str]:
    """Write the answers, as JSON unless CSV is accepted and JSON is not.

    Returns:
        The text, and its content type.

    Raises:
        InputError: Neither is accepted.
    """
    with _telling_the_toolkit():
        accepted = [_kind(part) for part in (accept or JSON).split(",")]
        if any(kind in (JSON, "application/*", "*/*") for kind in accepted):
            return json.dumps(prediction, ensure_ascii=True, allow_nan=False), JSON
        if any(kind in (CSV, "text/*") for kind in accepted):
            return _table(prediction), CSV
        raise InputError(f"The answer can be {JSON} or {CSV}, and {accept!r} accepts neither.")


@contextmanager
def _telling_the_toolkit() -> Iterator[None]:
    """Let the toolkit know that a request is at fault; every other error is the endpoint's to it."""
    try:
        yield
    except InputError as error:
        try:
            from sagemaker_inference.errors import BaseInferenceToolkitError
        except ImportError:
            raise error from None
        raise BaseInferenceToolkitError(400, str(error), "Bad Request") from error


def _kind(content_type: str | None) -> str:
    return (content_type or JSON).partition(";")[0].strip().lower()


def _rows(data: bytes) -> list[dict[str, str]]:
    csv.field_size_limit(_LARGEST_CELL)
    try:
        text = data.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"The body is not CSV in UTF-8 ({error}).") from error
    if not rows or sorted(rows[0]) != sorted(TEXTS):
        raise InputError("The first line of the CSV must name the columns: question,context.")
    header, lines = rows[0], [row for row in rows[1:] if row]
    short = next((number for number, row in enumerate(lines, 1) if len(row) != len(header)), None)
    if short is not None:
        raise InputError(
            f"Line {short} after the header has not two cells: put texts with commas into quotes."
        )
    return [dict(zip(header, row, strict=True)) for row in lines]


def _table(prediction: Any) -> str:
    """A line for each question, in order, under a header; of several answers to one, the best."""
    rows = prediction if isinstance(prediction, list) else [prediction]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        best = row[0] if isinstance(row, list) and row else row
        writer.writerow([best[name] for name in _COLUMNS] if isinstance(best, dict) else ["", 0.0, 0, 0])
    return out.getvalue()
