"""The same engine in a custom runtime of MLServer, asked by FastSpan's own protocol.

It runs in MLServer's environment, ``requirements-mlserver.txt``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from collections.abc import Sequence

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.handlers import custom_handler
from mlserver.settings import ModelParameters
from starlette.requests import Request
from starlette.responses import Response

from fastspan import QuestionAnswerer

__all__ = ["Runtime", "main"]


class Runtime(MLModel):  # type: ignore[misc]  # MLServer is not installed where types are checked
    """A model of MLServer that answers questions."""

    async def load(self) -> bool:
        """Load the bundle, and say where it answers."""
        extra = self.settings.parameters.extra
        self.qa = QuestionAnswerer.load(
            self.settings.parameters.uri, threads=extra["threads"], optimize_for="throughput"
        )
        self.qa.answer("Who wrote it?", "Ada wrote it.")
        print(f"at http://127.0.0.1:{extra['port']};", file=sys.stderr, flush=True)
        return True

    async def unload(self) -> bool:
        """Close the bundle."""
        self.qa.close()
        return True

    @custom_handler(rest_path="/answer")  # type: ignore[untyped-decorator]
    async def answer(self, request: Request) -> Response:
        """Answer one question in a thread, so that others can be read meanwhile."""
        body = json.loads(await request.body())
        prediction = await asyncio.to_thread(self.qa.answer, body["question"], body["context"])
        return Response(json.dumps(prediction.to_dict()), media_type="application/json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a bundle until SIGTERM."""
    parser = argparse.ArgumentParser(description="MLServer around FastSpan's engine")
    parser.add_argument("bundle")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    http, grpc, metrics = _free_ports(3)
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=http,
        grpc_port=grpc,
        metrics_port=metrics,
        # The engine has threads of its own; processes would each hold a model.
        parallel_workers=0,
    )
    parameters = ModelParameters(uri=options.bundle, extra={"threads": options.threads, "port": http})
    implementation = "fastspan.benchmarks.serving.mlserver_runtime.Runtime"
    model = ModelSettings(name="qa", implementation=implementation, parameters=parameters)
    asyncio.run(MLServer(settings).start([model]))
    return 0


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago: MLServer cannot say which it took."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in taken]
    for one in taken:
        one.close()
    return ports


if __name__ == "__main__":
    sys.exit(main())
