"""``fastspan serve``: a bundle behind HTTP."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from fastspan.bundle.strict_json import named
from fastspan.cli.argument_types import positive
from fastspan.cli.arguments import bundle_argument, load_arguments, load_options
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import say

NAME = "serve"
HELP = "answer questions over HTTP"
EXAMPLES = (
    "fastspan serve models/exported/minilm-l6-squad2 --port 8080",
    'curl -s localhost:8080/answer -d \'{"question": "Who wrote it?", "context": "Ada wrote it."}\'',
)


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan serve`` shares with other commands."""
    return [bundle_argument(), *load_options()]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan serve``."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is every one (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=_port, default=8080, metavar="N", help="port to listen on; 0 is any (default: 8080)"
    )
    parser.add_argument(
        "--optimize-for",
        choices=("throughput", "latency"),
        default="throughput",
        help="many requests side by side on a thread each, or one at a time on all (default: throughput)",
    )
    parser.add_argument(
        "--max-concurrent-requests",
        type=positive,
        default=512,
        metavar="N",
        help="requests in flight; one more is refused with status 429 (default: 512)",
    )
    parser.add_argument(
        "--payload-limit",
        type=positive,
        default=2_000_000,
        metavar="BYTES",
        help="largest body of a request; a larger one is refused with status 413 (default: 2000000)",
    )
    parser.add_argument(
        "--max-windows",
        type=positive,
        default=1000,
        metavar="N",
        help="windows that one question and context may make; more get status 413 (default: 1000)",
    )


def run(arguments: Namespace) -> int:
    """Load the bundle, then serve it until SIGTERM or Ctrl+C."""
    from fastspan.answerer import QuestionAnswerer
    from fastspan.serving import Limits, Service, listen, run_server

    limits = Limits(
        concurrent_requests=arguments.max_concurrent_requests,
        payload_bytes=arguments.payload_limit,
        windows=arguments.max_windows,
    )
    with (
        QuestionAnswerer.load(
            arguments.bundle, optimize_for=arguments.optimize_for, **load_arguments(arguments)
        ) as qa,
        listen(arguments.host, arguments.port) as listening,
    ):
        host, port = listening.getsockname()[:2]
        info = qa.info()
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        say(
            f"{named(info.name)} ({info.variant} on {info.providers[0]}, threads: {info.threads}) at "
            f"{address}; Ctrl+C stops it"
        )
        run_server(Service(qa, limits), listening)
    return 0


def _port(text: str) -> int:
    """The type of a port's number."""
    value = int(text) if text.isascii() and text.isdecimal() else -1
    if not 0 <= value <= 65535:
        raise ArgumentTypeError(f"{text!r} is not a port: a whole number from 0 to 65535")
    return value
