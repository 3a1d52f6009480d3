"""The HTTP service: answerers behind a few routes. It comes with the extra ``serve``.

What needs the extra is imported when it is first asked for, and raises ``MissingDependency`` without it. The
protocols do not: hosting platforms that bring a server of their own use them alone. The engine never imports
this package.
"""

from __future__ import annotations

import typing
from importlib import import_module

from fastspan.errors import MissingDependency
from fastspan.serving.scheduling.limits import Limits
from fastspan.serving.settings import Settings

if typing.TYPE_CHECKING:
    from fastspan.serving.app import Service
    from fastspan.serving.processes import supervise
    from fastspan.serving.server import listen, run_server

__all__ = ["Limits", "Service", "Settings", "listen", "run_server", "supervise"]

_HOMES = {
    "Service": "app",
    "listen": "server",
    "run_server": "server",
    "supervise": "processes",
}
_PACKAGES = {"starlette", "uvicorn", "h11", "prometheus_client"}


def __getattr__(name: str) -> typing.Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        raise MissingDependency(
            f"The HTTP service needs {package}, which is not installed: run pip install 'fastspan[serve]'."
        ) from error
    globals()[name] = found
    return found
