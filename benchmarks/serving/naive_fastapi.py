"""The same engine behind FastAPI as its tutorial has it: a function that answers, and nothing around it.

There is no admission, no deadline and no batching across requests; FastAPI runs the function in its threads.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence
from typing import Any

from fastspan import QuestionAnswerer

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a bundle until SIGTERM."""
    import uvicorn
    from fastapi import FastAPI

    parser = argparse.ArgumentParser(description="a plain FastAPI handler around FastSpan's engine")
    parser.add_argument("bundle")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(arguments)
    with QuestionAnswerer.load(options.bundle, threads=options.threads, optimize_for="throughput") as qa:
        qa.answer("Who wrote it?", "Ada wrote it.")
        app = FastAPI()

        def answer(body: dict[str, Any]) -> dict[str, Any]:
            return qa.answer(body["question"], body["context"]).to_dict()

        app.post("/answer")(answer)
        # As of a descriptor, Python finds out that it is TCP; else asyncio would let every response wait for
        # an acknowledgement.
        descriptor = socket.create_server(("127.0.0.1", 0), backlog=1024).detach()
        with socket.socket(fileno=descriptor) as listening:
            print(f"at http://127.0.0.1:{listening.getsockname()[1]};", file=sys.stderr, flush=True)
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
            server.run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
