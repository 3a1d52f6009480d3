"""``fastspan serve``: bundles behind HTTP."""

from __future__ import annotations

import os
import socket
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastspan.bundle.strict_json import named
from fastspan.cli.argument_types import path
from fastspan.cli.arguments import FOLDERS, completed_with, load_arguments, load_options
from fastspan.cli.commands import UsageError
from fastspan.cli.named_sources import Source, named_sources
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import say
from fastspan.errors import InputError
from fastspan.serving.scheduling.limits import Limits, flag_of, variable_of
from fastspan.serving.settings import Settings, read_keys

if TYPE_CHECKING:
    from fastspan.serving.hosted_bundles.sources import Sources

NAME = "serve"
HELP = "answer questions over HTTP"
EXAMPLES = (
    "fastspan serve models/exported/minilm-l6-squad2 --port 8080",
    'curl -s localhost:8080/answer -d \'{"question": "Who wrote it?", "context": "Ada wrote it."}\'',
    "fastspan serve small=models/exported/minilm-l6-squad2 large=owner/large-squad2 --shadow large",
    "fastspan serve fast:int8=models/exported/minilm-l6-squad2 exact:fp32=models/exported/minilm-l6-squad2",
)

# Vertex AI tells a container where to listen and which routes it asks.
_VERTEX_PORT, _VERTEX_HEALTH, _VERTEX_PREDICT = "AIP_HTTP_PORT", "AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan serve`` shares with other commands."""
    return load_options()


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan serve``."""
    bundles = parser.add_argument(
        "bundles",
        metavar="BUNDLE",
        nargs="+",
        help="the folder that fastspan export wrote, or a hub id; of several, NAME=BUNDLE, or "
        "NAME:VARIANT=BUNDLE where --variant does not count",
    )
    completed_with(bundles, FOLDERS)
    on_vertex = _VERTEX_PORT in os.environ
    _add(
        parser,
        "--host",
        str,
        "0.0.0.0" if on_vertex else "127.0.0.1",  # noqa: S104 - Vertex asks from outside
        "ADDRESS",
        "address to listen on; 0.0.0.0 is every one",
    )
    _add(
        parser,
        "--port",
        _port,
        os.environ.get(_VERTEX_PORT, "8080"),
        "N",
        "port to listen on; 0 is any",
    )
    parser.add_argument(
        "--optimize-for",
        choices=("throughput", "latency"),
        default=os.environ.get(variable_of("--optimize-for"), "throughput"),
        help="many runs side by side on a thread each, or one at a time on all (default: throughput)",
    )
    limits = parser.add_argument_group("limits")
    for limit in fields(Limits):
        meta = limit.metadata
        kind = _whole if limit.type == "int" else _seconds
        _add(limits, flag_of(limit), kind, str(limit.default), meta["unit"], meta["help"], limit.name)
    safety = parser.add_argument_group("keys and safety")
    safety.add_argument(
        "--api-key",
        action="append",
        metavar="KEY",
        help="a key that opens the routes that answer; may be given again "
        f"(default: ${variable_of('--api-key')}, else they are open)",
    )
    safety.add_argument(
        "--api-keys-file",
        type=path,
        metavar="FILE",
        help="a file of such keys, one a line, which no list of processes shows",
    )
    safety.add_argument(
        "--admin-key",
        action="append",
        metavar="KEY",
        help=f"a key that opens /admin (default: ${variable_of('--admin-key')}, else it is closed)",
    )
    safety.add_argument("--tls-cert", type=path, metavar="FILE", help="certificate to encrypt with, as PEM")
    safety.add_argument("--tls-key", type=path, metavar="FILE", help="its key, as PEM")
    safety.add_argument(
        "--cors-origin",
        action="append",
        metavar="ORIGIN",
        help="web pages of this origin may ask; may be given again (default: none may)",
    )
    running = parser.add_argument_group("running")
    _add(running, "--workers", _whole, "1", "N", "processes that share the port and the weights")
    running.add_argument(
        "--shadow",
        metavar="NAME",
        help="this bundle answers in the background too, and /info says how often it agrees with the first",
    )
    running.add_argument("--no-page", action="store_true", help="show browsers no page at /")
    running.add_argument(
        "--tracing", action="store_true", help="report each request as a span to OpenTelemetry"
    )
    running.add_argument("--access-log", action="store_true", help="write a line of JSON for each request")
    running.add_argument(
        "--log-texts", action="store_true", help="put questions and contexts into those lines"
    )


def run(arguments: Namespace) -> int:
    """Load the bundles, then serve them until SIGTERM or Ctrl+C; or let several processes do so."""
    try:
        limits = Limits(**{limit.name: getattr(arguments, limit.name) for limit in fields(Limits)})
        settings, tls, sources = _settings(arguments), _tls(arguments), named_sources(arguments.bundles)
    except InputError as error:
        raise UsageError(str(error)) from error
    if arguments.workers < 1:
        raise UsageError("--workers must be at least 1.")
    return _serve(arguments, limits, settings, tls, sources)


def _serve(
    arguments: Namespace,
    limits: Limits,
    settings: Settings,
    tls: tuple[Path, Path] | None,
    sources: list[tuple[str | None, Source]],
) -> int:
    """Load the bundles and answer, in this process or in several that it starts."""
    from fastspan.answerer import QuestionAnswerer
    from fastspan.serving.hosted_bundles.sources import Sources
    from fastspan.serving.processes import shared_metrics

    def load(source: Source) -> QuestionAnswerer:
        options = load_arguments(arguments)
        if source.variant is not None:
            options["variant"] = source.variant
        # Of what processes are to share, threads would not come along.
        return QuestionAnswerer.load(
            source.place, optimize_for=arguments.optimize_for, widen=arguments.workers == 1, **options
        )

    bundles = Sources(sources, load)
    try:
        if arguments.workers == 1:
            _answer(bundles, arguments, limits, settings, tls, None)
            return 0
        with shared_metrics():
            from fastspan.serving import listen, supervise  # which import what counts

            with listen(arguments.host, arguments.port) as listening:
                if _survives_a_fork(arguments):
                    bundles.load_to_share()
                names = ", ".join(source.place for _, source in sources)
                address = _address(listening, arguments)
                say(f"{arguments.workers} processes with {names} at {address}; Ctrl+C stops them")
                if supervise(listening, arguments.workers, limits.grace_seconds, bundles.share_anew):
                    _answer(bundles, arguments, limits, settings, tls, listening)
    finally:
        bundles.close()
    return 0


def _survives_a_fork(arguments: Namespace) -> bool:
    """Whether a forked process may run what is loaded: threads do not survive a fork, and CUDA does not."""
    from fastspan.runtime.providers import provider_kind, resolve_provider

    on_cpu = provider_kind(resolve_provider(arguments.provider)) == "cpu"
    return on_cpu and arguments.optimize_for == "throughput"


def _answer(
    bundles: Sources[Source],
    arguments: Namespace,
    limits: Limits,
    settings: Settings,
    tls: tuple[Path, Path] | None,
    inherited: socket.socket | None,
) -> None:
    """Answer until SIGTERM, in this process."""
    from fastspan.serving import Service, listen, run_server

    bundles.load()
    service = Service(bundles.loaded, limits, settings, load=bundles.load_again, shadow=arguments.shadow)
    service.bundles.warm_up()
    with inherited or listen(arguments.host, arguments.port) as listening:
        address = _address(listening, arguments)
        # Where several processes answer, the one that started them has said so.
        for name, answerer in bundles.loaded.items() if inherited is None else ():
            info = answerer.info()
            what = f"{info.variant} on {info.providers[0]}, threads: {info.threads}"
            say(f"{named(name)} ({what}) at {address}; Ctrl+C stops it")
        run_server(service, listening, tls)


def _address(listening: socket.socket, arguments: Namespace) -> str:
    host, port = listening.getsockname()[:2]
    scheme = "http" if arguments.tls_cert is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _add(
    parser: Any, flag: str, kind: Any, default: str, unit: str, meaning: str, name: str | None = None
) -> None:
    """Declare an option that an environment variable sets too; argparse checks either."""
    variable = variable_of(flag)
    parser.add_argument(
        flag,
        type=kind,
        metavar=unit,
        default=os.environ.get(variable, default),
        dest=name or flag[2:].replace("-", "_"),
        help=f"{meaning} (default: ${variable}, else {default})",
    )


def _settings(arguments: Namespace) -> Settings:
    api_keys = tuple(arguments.api_key or _of_variable("--api-key"))
    if arguments.api_keys_file is not None:
        api_keys = read_keys(arguments.api_keys_file, api_keys)
    return Settings(
        api_keys=api_keys,
        admin_keys=tuple(arguments.admin_key or _of_variable("--admin-key")),
        cors_origins=tuple(arguments.cors_origin or ()),
        access_log=arguments.access_log,
        log_texts=arguments.log_texts,
        tracing=arguments.tracing,
        page=not arguments.no_page,
        predict_route=os.environ.get(_VERTEX_PREDICT, ""),
        health_route=os.environ.get(_VERTEX_HEALTH, ""),
    )


def _of_variable(flag: str) -> list[str]:
    """Keys in an environment variable, with commas between them."""
    return [key for key in os.environ.get(variable_of(flag), "").split(",") if key.strip()]


def _tls(arguments: Namespace) -> tuple[Path, Path] | None:
    if (arguments.tls_cert is None) != (arguments.tls_key is None):
        raise InputError("--tls-cert and --tls-key belong together: give both, or neither.")
    return None if arguments.tls_cert is None else (arguments.tls_cert, arguments.tls_key)


def _port(text: str) -> int:
    """The type of a port's number."""
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not 0 <= value <= 65535:
        raise ArgumentTypeError(f"{text!r} is not a port: a whole number from 0 to 65535")
    return value


def _whole(text: str) -> int:
    """The type of a whole number; ``Limits`` says which are too small."""
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ArgumentTypeError(f"{text[:80]!r} is not a whole number")
    return int(text)


def _seconds(text: str) -> float:
    """The type of a number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e9:
        raise ArgumentTypeError(f"{text[:80]!r} is not a number of seconds")
    return value
