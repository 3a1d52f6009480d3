"""FastSpan: extractive question answering on ONNX Runtime.

Text in, the answering span out, with a calibrated confidence, or the finding that the passage does not
answer the question.
"""

import typing

from fastspan.errors import (
    BundleError,
    CheckpointError,
    ChecksumMismatch,
    Closed,
    DataError,
    DeadlineExceeded,
    FastSpanError,
    IncompatibleBundle,
    InferenceError,
    InputError,
    MissingDependency,
    Overloaded,
    ParityError,
    ProviderError,
    TooManyWindows,
)
from fastspan.options import AnswerOptions, LoadOptions
from fastspan.results import Answer, Info, PassageAnswer, Prediction, Reading
from fastspan.version import __version__

if typing.TYPE_CHECKING:
    from fastspan.answerer import QuestionAnswerer

__all__ = [
    "Answer",
    "AnswerOptions",
    "BundleError",
    "CheckpointError",
    "ChecksumMismatch",
    "Closed",
    "DataError",
    "DeadlineExceeded",
    "FastSpanError",
    "IncompatibleBundle",
    "InferenceError",
    "Info",
    "InputError",
    "LoadOptions",
    "MissingDependency",
    "Overloaded",
    "ParityError",
    "PassageAnswer",
    "Prediction",
    "ProviderError",
    "QuestionAnswerer",
    "Reading",
    "TooManyWindows",
    "__version__",
]


def __getattr__(name: str) -> typing.Any:
    # numpy and tokenizers take longer to import than everything else; who only catches an error or asks for
    # help does not wait for them.
    if name == "QuestionAnswerer":
        from fastspan.answerer import QuestionAnswerer

        globals()[name] = QuestionAnswerer
        return QuestionAnswerer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
