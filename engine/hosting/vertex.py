"""Vertex AI: a server for its custom containers, told where to listen by ``AIP_*`` environment variables.

``POST`` of ``AIP_PREDICT_ROUTE`` takes ``{"instances": […], "parameters": {…}}`` and returns
``{"predictions": […]}``; ``GET`` of ``AIP_HEALTH_ROUTE`` says that the bundle is loaded.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fastspan.errors import FastSpanError, InputError
from fastspan.hosting.questions import Hosted, load_hosted
from fastspan.serving.protocols.request_body import check_keys, json_object, parse_body

__all__ = ["application", "main", "port_of"]

_PORT, _PREDICT, _HEALTH = "AIP_HTTP_PORT", "AIP_PREDICT_ROUTE", "AIP_HEALTH_ROUTE"


def application(hosted: Hosted, environment: Mapping[str, str]) -> Starlette:
    """Return the ASGI application.

    Args:
        hosted: The bundle.
        environment: Where the routes are read from.
    """

    async def predict(request: Request) -> Response:
        body = await request.body()
        try:
            return _json({"predictions": await run_in_threadpool(_predictions, hosted, body)})
        except InputError as error:
            return _json({"error": str(error)}, 400)
        except FastSpanError as error:
            sys.stderr.write(f"{error}\n")
            return _json({"error": "The model failed; the container's log says why."}, 500)

    async def health(_: Request) -> Response:
        return _json({"status": "ready"})

    return Starlette(
        routes=[
            Route(environment.get(_PREDICT) or "/predict", predict, methods=["POST"]),
            Route(environment.get(_HEALTH) or "/health", health, methods=["GET"]),
        ]
    )


def port_of(environment: Mapping[str, str]) -> int:
    """Return the port to listen on: that of ``AIP_HTTP_PORT``, else 8080.

    Raises:
        InputError: It is no port.
    """
    text = environment.get(_PORT) or "8080"
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:6]) < 65536:
        raise InputError(f"{_PORT} must be a port's number, not {text!r}.")
    return int(text)


def main(words: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Serve the bundle in a folder until SIGTERM.

    Args:
        words: The folder.
        environment: As for ``application``; None: the process's.
    """
    import uvicorn

    given = os.environ if environment is None else environment
    try:
        port = port_of(given)
        hosted = load_hosted(words[0])
    except FastSpanError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    uvicorn.run(application(hosted, given), host="0.0.0.0", port=port, access_log=False)  # noqa: S104
    return 0


def _predictions(hosted: Hosted, body: bytes) -> list[Any]:
    request = json_object(parse_body(body), "the body")
    check_keys(request, "the body", required=("instances",), optional=("parameters",))
    if not isinstance(request["instances"], list):
        raise InputError("instances must be a list of objects of question and context.")
    return hosted.answer_all(request["instances"], request.get("parameters"))


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value, allow_nan=False), status, media_type="application/json")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
