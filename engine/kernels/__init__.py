"""The int8 kernels: a library of our own that ONNX Runtime runs int8 graphs with.

It is optional. Where it is missing, or gives other numbers than it should, ``unavailable_reason`` says so in
one sentence, and the plain int8 graph runs.
"""

from __future__ import annotations

from fastspan.kernels.library import (
    best_path,
    paths,
    register,
    runs_end_within,
    runs_with_threads,
    unavailable_reason,
)

__all__ = ["best_path", "paths", "register", "runs_end_within", "runs_with_threads", "unavailable_reason"]
