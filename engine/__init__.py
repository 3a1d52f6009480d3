"""FastSpan: extractive question answering on ONNX Runtime.

Text in, the answering span out, with a calibrated confidence, or the finding that the passage does not
answer the question.
"""

from fastspan.answerer import QuestionAnswerer
from fastspan.config import AnswerOptions, LoadOptions
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
)
from fastspan.types import Answer, Info, Prediction

__version__ = "0.1.0"

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
    "Prediction",
    "ProviderError",
    "QuestionAnswerer",
    "__version__",
]
