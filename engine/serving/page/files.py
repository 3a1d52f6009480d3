"""The page's files, read once, and the routes that give them out."""

from __future__ import annotations

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["FOLDER", "POLICY", "page_response", "page_routes", "wants_html"]

FOLDER = "static"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the page may load: files of this service. It has no inline script and no inline style."""

_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Asked for again each time, and answered without a body where nothing changed.
    "cache-control": "no-cache",
}
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE = "page.html"


class _File:
    """A file of the page in memory.

    Args:
        name: Its name.
        content: Its bytes.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.content = content
        self.media_type = f"{_TYPES[name[name.rindex('.') :]]}; charset=utf-8"
        self.etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    def response(self, request: Request) -> Response:
        """Return the file, or that the browser has it already."""
        headers = {**_HEADERS, "etag": self.etag}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def wants_html(accept: str) -> bool:
    """Say whether an ``Accept`` header names HTML, as a browser's does and ``curl``'s does not."""
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        if kind == "text/html":
            return not any(word.replace(" ", "") in ("q=0", "q=0.0", "q=0.000") for word in parameters)
    return False


def page_response(request: Request) -> Response:
    """Return the page itself."""
    response = _FILES[_PAGE].response(request)
    response.headers["vary"] = "accept"
    return response


def page_routes() -> list[Route]:
    """Return a route for each file that the page loads."""

    def route(name: str, file: _File) -> Route:
        async def give(request: Request) -> Response:
            return file.response(request)

        return Route(f"/page/{name}", give, methods=["GET"])

    return [route(name, file) for name, file in _FILES.items() if name != _PAGE]


def _read() -> dict[str, _File]:
    folder = resources.files(__package__) / FOLDER
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(tuple(_TYPES)))
    return {name: _File(name, (folder / name).read_bytes()) for name in names}


_FILES = _read()
