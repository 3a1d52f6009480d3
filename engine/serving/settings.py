"""How a service behaves beside its limits: keys, who may read it from a browser, what it logs, its routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastspan.errors import InputError

__all__ = ["FOLDER_VARIABLE", "Settings", "read_keys"]

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client's own variable: where it is set, several processes add up their values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a service behaves.

    Attributes:
        api_keys: Any of them opens the routes that answer; none: they are open.
        admin_keys: Any of them opens ``/admin``; none: it is closed.
        cors_origins: Web pages of these origins may ask; none: a browser lets no other page read answers.
        access_log: Write a line of JSON for each request.
        log_texts: Put questions and contexts into those lines.
        predict_route: A further route for Vertex's protocol.
        health_route: A further route that says whether the service is ready.
        tracing: Report each request as a span to OpenTelemetry.
        page: Show the page at ``/``.
    """

    api_keys: tuple[str, ...] = ()
    admin_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    access_log: bool = False
    log_texts: bool = False
    predict_route: str = ""
    health_route: str = ""
    tracing: bool = False
    page: bool = True

    def __post_init__(self) -> None:
        for name in ("api_keys", "admin_keys"):
            for key in getattr(self, name):
                if not key.isascii() or not key.isprintable() or not key.strip():
                    raise InputError(f"{name} must be of printable ASCII characters, and not blank.")
        for name in ("predict_route", "health_route"):
            if (route := getattr(self, name)) and not route.startswith("/"):
                raise InputError(f"{name} must begin with a slash, not {route!r}.")
        if self.log_texts and not self.access_log:
            raise InputError("log_texts needs access_log: the texts stand in its lines.")


def read_keys(path: Path, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return keys of a file, one a line, blank lines and those that begin with ``#`` left out, and others.

    Raises:
        InputError: The file cannot be read, or holds no key.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The file of keys {path} cannot be read: {error}.") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise InputError(f"The file of keys {path} holds none: write one a line.")
    return (*given, *keys)
