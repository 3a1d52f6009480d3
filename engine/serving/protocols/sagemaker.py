"""Amazon SageMaker's protocol of ``POST /invocations``: Hugging Face's JSON, or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from fastspan.decoding.pipeline_parameters import in_pipeline_names
from fastspan.errors import InputError
from fastspan.results import Info, Prediction
from fastspan.serving.protocols.asked import Asked, Incoming, Reply, Times
from fastspan.serving.protocols.hugging_face import (
    as_pipeline,
    ask_as_hugging_face,
    pipeline_options,
)
from fastspan.serving.protocols.request_body import MalformedBodyError

__all__ = ["ask_as_sagemaker"]


def ask_as_sagemaker(incoming: Incoming, info: Info) -> Asked:
    """Read what Hugging Face's protocol reads or, of the type ``text/csv``, lines of question and context.

    The reply to CSV is CSV: a line ``answer,score,start,end`` for each.

    Raises:
        MalformedBodyError: The body is neither.
        InputError: A line has not two fields, or a parameter is unusable.
    """
    if incoming.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/csv":
        return ask_as_hugging_face(incoming, info)
    try:
        text = incoming.body.decode("utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise MalformedBodyError(f"The body is not CSV in UTF-8 ({error}).") from error
    if not lines:
        raise InputError("The body holds no line of question and context.")
    for number, line in enumerate(lines, 1):
        if len(line) != 2:
            raise InputError(f"Line {number} must hold question and context, not {len(line)} fields.")
    return Asked(
        pairs=[(question, context) for question, context in lines],
        options=pipeline_options({}, info),
        form=_form,
        rename=in_pipeline_names,
    )


def _form(predictions: Sequence[Prediction], _: Times) -> Reply:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for prediction in predictions:
        found = as_pipeline(prediction, 1)
        assert isinstance(found, dict)
        writer.writerow([found[name] for name in ("answer", "score", "start", "end")])
    return Reply(body=text.getvalue().encode("utf-8", "replace"), media_type="text/csv; charset=utf-8")
