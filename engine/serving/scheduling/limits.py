"""What a service takes on: each limit once, with its option and its environment variable."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

from fastspan.errors import InputError

__all__ = ["Limits", "flag_of", "variable_of"]


def _limit(default: float, flag: str, unit: str, meaning: str, *, least: float = 1) -> Any:
    return field(default=default, metadata={"flag": flag, "unit": unit, "help": meaning, "least": least})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a service takes on.

    Attributes:
        concurrent_requests: Requests whose body is in and whose answer is not out; one more gets 429.
        payload_bytes: Largest body, in bytes.
        windows: The most windows that one request may make.
        pairs: The most pairs of question and context in one request.
        timeout_ms: How long a request may take that does not say so itself, in milliseconds.
        wait_ms: The longest that a request may have to wait for its first run, by estimate, in milliseconds.
        body_seconds: How long a client may take to send a body.
        header_seconds: How long a client may take to send a request's header.
        keep_alive_seconds: How long a connection is kept between two requests.
        connections: Connections at once, idle ones included.
        pending_bytes: Bytes of bodies that are arriving, all connections together.
        memory_bytes: Resident memory of the process from which on requests are refused; 0: no limit.
        grace_seconds: How long requests in flight may take to finish once the service is asked to stop.
    """

    concurrent_requests: int = _limit(
        512, "--max-concurrent-requests", "N", "requests in flight; one more is refused with status 429"
    )
    payload_bytes: int = _limit(
        2_000_000, "--payload-limit", "BYTES", "largest body of a request; a larger one gets status 413"
    )
    windows: int = _limit(
        1000, "--max-windows", "N", "windows that one request may make; more get status 413"
    )
    pairs: int = _limit(
        256, "--max-pairs", "N", "pairs of question and context in one request; more get status 413"
    )
    timeout_ms: int = _limit(
        30_000,
        "--default-timeout-ms",
        "MS",
        "how long a request may take that sends no X-Request-Timeout-Ms; then it gets status 504",
    )
    wait_ms: int = _limit(
        1000,
        "--max-wait-ms",
        "MS",
        "longest wait, by estimate, for a request's first run; a longer one gets status 429",
    )
    body_seconds: float = _limit(
        30, "--body-timeout", "S", "how long a client may take to send a body", least=0.001
    )
    header_seconds: float = _limit(
        10, "--header-timeout", "S", "how long a client may take to send a request's header", least=0.001
    )
    keep_alive_seconds: int = _limit(
        75,
        "--keep-alive",
        "S",
        "how long a connection is kept between requests; more than the load balancer's",
    )
    connections: int = _limit(1024, "--max-connections", "N", "connections at once, idle ones included")
    pending_bytes: int = _limit(
        256_000_000, "--max-pending-bytes", "BYTES", "bytes of bodies arriving at once; more get status 429"
    )
    memory_bytes: int = _limit(
        0,
        "--max-memory",
        "BYTES",
        "resident memory from which on requests get status 429; 0: no limit",
        least=0,
    )
    grace_seconds: float = _limit(
        25, "--grace", "S", "how long requests in flight may take once the service is to stop", least=0
    )

    def __post_init__(self) -> None:
        for limit in fields(self):
            value, least = getattr(self, limit.name), limit.metadata["least"]
            whole = limit.type == "int"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                kind = "a whole number" if whole else "a number"
                raise InputError(f"{limit.name} ({flag_of(limit)}) must be {kind}, not {value!r}.")
            if not value >= least:
                raise InputError(f"{limit.name} ({flag_of(limit)}) must be at least {least}, not {value!r}.")


def flag_of(limit: Field[Any]) -> str:
    """Return the option of ``fastspan serve`` that sets a field of ``Limits``."""
    return str(limit.metadata["flag"])


def variable_of(flag: str) -> str:
    """Return the environment variable that sets what an option of ``fastspan serve`` sets."""
    return f"FASTSPAN_{flag.removeprefix('--').replace('-', '_').upper()}"
