"""The HTTP service: an answerer behind a few routes. It comes with the extra ``serve``.

Importing this package needs starlette and uvicorn, and raises ``MissingDependency`` without them. The engine
never imports it.
"""

from fastspan.errors import MissingDependency

try:
    from fastspan.serving.app import Limits, Service
    from fastspan.serving.server import listen, run_server
except ModuleNotFoundError as error:
    package = (error.name or "").partition(".")[0]
    if package not in {"starlette", "uvicorn"}:
        raise
    raise MissingDependency(
        f"The HTTP service needs {package}, which is not installed: run pip install 'fastspan[serve]'."
    ) from error

__all__ = ["Limits", "Service", "listen", "run_server"]
