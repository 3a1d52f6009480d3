"""The errors FastSpan raises, one tree.

    FastSpanError
    ├── InputError            a question, context or option the caller can mend
    │   └── TooManyWindows    a context makes more windows than max_windows
    ├── CheckpointError       a checkpoint that cannot be read or exported
    ├── DataError             an evaluation file that is not what it claims to be
    ├── ParityError           an exported graph that disagrees with its reference
    ├── BundleError           an exported model folder that cannot be used
    │   ├── ChecksumMismatch  a file of it is not the file that was exported
    │   └── IncompatibleBundle  written by a format this version does not read
    ├── ProviderError         the requested execution provider cannot run
    ├── MissingDependency     an optional package is not installed
    ├── Overloaded            more work is queued than the limit allows
    ├── DeadlineExceeded      the answer was not ready in time
    ├── InferenceError        ONNX Runtime failed while running a graph
    └── Closed                the answerer was closed before the call

Every message says what was wrong and how to mend it. Where another exception was
the cause, it is chained.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "CheckpointError",
    "ChecksumMismatch",
    "Closed",
    "DataError",
    "DeadlineExceeded",
    "FastSpanError",
    "IncompatibleBundle",
    "InferenceError",
    "InputError",
    "MissingDependency",
    "Overloaded",
    "ParityError",
    "ProviderError",
    "TooManyWindows",
]


class FastSpanError(Exception):
    """Base of every error that FastSpan raises on purpose."""


class InputError(FastSpanError, ValueError):
    """A question, a context or an option is not usable; the message names the argument.

    Args:
        message: What was wrong and how to mend it.
        index: Position of the pair among those of ``answer_many``, from 0; None where there is but one.

    Attributes:
        index: As given.
    """

    def __init__(self, message: str = "", *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class TooManyWindows(InputError):
    """A context makes more windows beside its question than ``max_windows`` allows."""


class CheckpointError(FastSpanError):
    """A checkpoint cannot be read, or its architecture cannot be exported."""


class DataError(FastSpanError, ValueError):
    """An evaluation or calibration file is malformed; the message names the record."""


class ParityError(FastSpanError):
    """An exported variant differs from its reference by more than its gate allows."""


class BundleError(FastSpanError):
    """A bundle is missing, incomplete, unsafe or damaged."""


class ChecksumMismatch(BundleError):
    """A file in the bundle is not byte for byte the file that was exported."""


class IncompatibleBundle(BundleError):
    """The bundle's manifest is of a format this version does not read."""


class ProviderError(FastSpanError):
    """The requested execution provider is missing or refused to run the graph."""


class MissingDependency(FastSpanError, ImportError):
    """An optional package is not installed; the message says which extra brings it."""


class Overloaded(FastSpanError):
    """More work is waiting than the configured limit allows.

    Args:
        message: What was too much.
        retry_after: Seconds after which it is worth trying again.
        reason: A word for what was too much.

    Attributes:
        retry_after: As given.
        reason: As given.
    """

    def __init__(self, message: str = "", *, retry_after: float = 1.0, reason: str = "overloaded") -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.reason = reason


class DeadlineExceeded(FastSpanError, TimeoutError):
    """The deadline passed before the answer was ready."""


class InferenceError(FastSpanError):
    """ONNX Runtime failed while running a graph."""


class Closed(FastSpanError):
    """The answerer was closed; load a new one."""
