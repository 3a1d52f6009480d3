"""The HTTP service: an answerer behind a few routes. It comes with the extra ``serve``.

The names of this package need starlette and uvicorn, and raise ``MissingDependency`` without them. The
protocols do not: hosting platforms that bring a server of their own use them alone. The engine never imports
this package.
"""

import typing
from importlib import import_module

from fastspan.errors import MissingDependency

if typing.TYPE_CHECKING:
    from fastspan.serving.app import Limits, Service
    from fastspan.serving.server import listen, run_server

__all__ = ["Limits", "Service", "listen", "run_server"]

_MODULES = {"Limits": "app", "Service": "app", "listen": "server", "run_server": "server"}


def __getattr__(name: str) -> typing.Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"starlette", "uvicorn"}:
            raise
        raise MissingDependency(
            f"The HTTP service needs {package}, which is not installed: run pip install 'fastspan[serve]'."
        ) from error
    globals()[name] = found
    return found
