"""What every protocol has in common: what comes in, what is asked, and what goes out.

A protocol is a function from a request's bytes to ``Asked``: pairs, options, and how the predictions become a
reply. Nothing here, and in no protocol, knows of HTTP's server, of queues or of the model; so protocols share
batches, limits and metrics without knowing of each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastspan.bundle.manifest import Manifest
from fastspan.options import AnswerOptions
from fastspan.results import Info, Prediction, Reading
from fastspan.runtime.session import Logits
from fastspan.text.encoder import EncodedPair

__all__ = ["Asked", "Incoming", "Protocol", "Reply", "Result", "Times", "json_reply"]

Result = Prediction | Reading
"""What is found: for a pair, or for a question and all its passages."""


@dataclass(slots=True)
class Times:
    """Where a request's time went, in seconds.

    Attributes:
        encode: From the complete body to windows.
        queue: From windows to the first run.
        run: From the begin of the first run to the end of the last.
        decode: From logits to predictions.
    """

    encode: float = 0.0
    queue: float = 0.0
    run: float = 0.0
    decode: float = 0.0

    def milliseconds(self) -> dict[str, float]:
        """Return them by name, in milliseconds."""
        return {
            "encode": round(1000 * self.encode, 3),
            "queue": round(1000 * self.queue, 3),
            "run": round(1000 * self.run, 3),
            "decode": round(1000 * self.decode, 3),
        }

    def server_timing(self) -> str:
        """Return them as the header of that name has them, in milliseconds."""
        return (
            f"encode;dur={1000 * self.encode:.3f}, queue;dur={1000 * self.queue:.3f}, "
            f"run;dur={1000 * self.run:.3f}, decode;dur={1000 * self.decode:.3f}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A request as a protocol sees it.

    Attributes:
        body: Its body.
        headers: Its headers; names in lower case.
        query: The parameters of its address.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The body of a response.

    Attributes:
        body: Its bytes.
        media_type: What they are.
        headers: Further headers.
    """

    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Decode = Callable[
    [Sequence[EncodedPair], Sequence[Sequence[Logits]], Sequence[Sequence[Logits]], AnswerOptions, Manifest],
    Sequence[Reading],
]
"""From pairs, their windows' start and end logits, options and the bundle's manifest to readings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks.

    Attributes:
        pairs: Questions and contexts; what is no pair of strings is refused when it is encoded.
        options: How to answer them all.
        form: From one prediction a pair, or what ``decode`` returned, and where the time went, to the reply.
        rename: From a message of the engine to one in the names that the protocol has for the options.
        decode: From logits to a reading of all pairs together, whose windows ``options.max_windows`` counts
            together too; None: each pair has a prediction of its own.
    """

    pairs: Sequence[tuple[Any, Any]]
    options: AnswerOptions
    form: Callable[[Sequence[Any], Times], Reply]
    rename: Callable[[str], str] = str
    decode: Decode | None = None


Protocol = Callable[[Incoming, Info], Asked]
"""From a request, and what is loaded, to what is asked."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def json_reply(value: Any) -> Reply:
    """Return a value of built-in types, whose numbers are all finite, as a reply."""
    text = _ENCODER.encode(value)
    # A lone surrogate, which UTF-8 cannot say, becomes the escape that JSON has for it.
    return Reply(body=text.encode("utf-8", "backslashreplace"))
