"""``fastspan bulk``: a whole file of questions."""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastspan.cli.argument_types import new_path, path, positive
from fastspan.cli.arguments import (
    FILES,
    bundle_of,
    bundle_option,
    completed_with,
    decoding_options,
    json_option,
    load_options,
)
from fastspan.cli.commands import UsageError
from fastspan.cli.outputs import ready_file
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import write_json
from fastspan.errors import InputError

if TYPE_CHECKING:
    from fastspan.bulk.chunks import Place
    from fastspan.bulk.engines import Engine, Work
    from fastspan.bulk.work_folder import Counts

NAME = "bulk"
HELP = "answer a file of questions with many workers, and go on where a run was cut off"
EXAMPLES = (
    "fastspan bulk questions.jsonl answers.jsonl",
    'fastspan bulk passages.parquet answers.parquet --context text --ask "Who wrote it?" --workers 8',
    "zcat questions.jsonl.gz | fastspan bulk - - --rejects rejects.jsonl > answers.jsonl",
)
_STREAM = "-"


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan bulk`` shares with other commands."""
    return [bundle_option(), json_option(), decoding_options(), *load_options()]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan bulk``."""
    source = parser.add_argument(
        "source",
        metavar="IN",
        type=_file,
        help="*.jsonl, *.ndjson, *.csv, *.tsv or *.parquet; - is JSON lines from standard input",
    )
    out = parser.add_argument(
        "out",
        metavar="OUT",
        type=_file,
        help="the file of answers, in the format of IN or as JSON lines; - is JSON lines to standard output",
    )
    rejects = parser.add_argument(
        "--rejects",
        metavar="FILE",
        type=new_path,
        help="rows that cannot be answered, with the reason, as JSON lines (default: OUT.rejects.jsonl)",
    )
    for argument in (source, out, rejects):
        completed_with(argument, FILES)
    add = parser.add_argument
    add("--question", metavar="COLUMN", default="question", help="the questions (default: question)")
    add("--context", metavar="COLUMN", default="context", help="the texts (default: context)")
    add("--id", metavar="COLUMN", help="what names a row (default: rows are numbered in a column row)")
    add("--ask", metavar="QUESTION", help="ask this of every row, instead of a column of questions")
    add("--keep-context", action="store_true", help="copy the texts to the output too")
    add("--prefix", default="", metavar="TEXT", help="what the names of the answers' columns begin with")
    add("--delimiter", type=_delimiter, metavar="C", help="of CSV (default: a comma; in *.tsv a tab)")
    add(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="processes on this machine, or actors on a Ray cluster (default: local)",
    )
    add(
        "--workers",
        type=positive,
        metavar="N",
        help="answerers side by side, each with --threads (default: one a core; with a GPU or --threads one)",
    )
    add(
        "--gpus",
        type=float,
        default=0,
        metavar="N",
        help="with --engine ray: GPUs of each worker (default: 0)",
    )
    add("--restart", action="store_true", help="begin again, where a run was cut off")


def run(arguments: Namespace) -> int:
    """Answer the file, and say how many rows there were."""
    from fastspan.bulk.columns import Columns
    from fastspan.bulk.progress import Progress
    from fastspan.bulk.run import FileJob, answer_file, answer_stream
    from fastspan.bulk.text_sources import JsonLinesSource
    from fastspan.bulk.work_folder import rejects_beside
    from fastspan.bulk.writing import JsonLines

    _refuse_unfit(arguments)
    columns = Columns(
        question=arguments.question,
        context=arguments.context,
        ask=arguments.ask,
        id=arguments.id,
        prefix=arguments.prefix,
        keep_context=arguments.keep_context,
    )
    work, variant = _work(arguments)
    shown: list[Progress] = []

    def engine() -> Engine:
        return _engine(arguments, work)

    def watch(size: int | None, start: Place) -> Progress:
        shown.append(Progress(sys.stderr, size, start))
        return shown[0]

    try:
        if arguments.source == _STREAM:
            lines = JsonLinesSource(sys.stdin.buffer, "standard input", columns, None)
            ready_file(arguments.rejects)
            with arguments.rejects.open("xb") as rejects:
                counts = answer_stream(lines, JsonLines(columns), sys.stdout.buffer, rejects, engine, watch)
        else:
            job = FileJob(
                source=Path(arguments.source),
                out=path(arguments.out),
                rejects=arguments.rejects or rejects_beside(Path(arguments.out)),
                columns=columns,
                delimiter=arguments.delimiter,
                options={"model": variant, **{name: str(value) for name, value in work.answer.items()}},
            )
            ready_file(job.out)
            ready_file(job.rejects)
            counts = answer_file(job, engine, watch, restart=arguments.restart)
    except FileExistsError as error:
        raise InputError(f"{arguments.rejects} is there already: name another file.") from error
    finally:
        for progress in shown:
            progress.clear()
    _tell(arguments, counts)
    return 0


def _file(text: str) -> str:
    """The type of a file, or of a hyphen for a standard stream."""
    return text if text == _STREAM else str(path(text))


def _delimiter(text: str) -> str:
    if len(text) != 1 or text in '\r\n"':
        raise argparse.ArgumentTypeError(f"{text!r} is not one character that can stand between fields")
    return text


def _refuse_unfit(arguments: Namespace) -> None:
    """Refuse arguments that are fine one by one but not together."""
    streams = [arguments.source, arguments.out].count(_STREAM)
    if streams == 1:
        raise UsageError("- stands for both IN and OUT, or for neither: what is piped cannot be resumed")
    if streams and arguments.rejects is None:
        raise UsageError("with -, name a file for rows that cannot be answered: --rejects FILE")
    if streams and arguments.json:
        raise UsageError("--json would stand among the answers on standard output")
    if not streams and len({arguments.source, arguments.out, str(arguments.rejects)}) < 3:
        raise UsageError("IN, OUT and --rejects must be three files")
    if arguments.engine == "ray" and arguments.variant == "auto":
        raise UsageError("--engine ray needs --variant: of their own, nodes might choose different ones")
    if arguments.gpus and arguments.engine != "ray":
        raise UsageError("--gpus goes with --engine ray")


def _work(arguments: Namespace) -> tuple[Work, str]:
    """What workers do, the variant settled; and which model that is, in words."""
    from hashlib import sha256

    from fastspan.answerer import QuestionAnswerer
    from fastspan.bulk.engines import Work
    from fastspan.bundle.source import open_bundle

    named = bundle_of(arguments.bundle)
    answer: dict[str, Any] = {
        "max_answer_length": arguments.max_answer_length,
        "no_answer_threshold": arguments.no_answer_threshold,
    }
    load = {
        "variant": arguments.variant,
        "provider": arguments.provider,
        "revision": arguments.revision,
    }
    if arguments.engine == "ray":
        graph = f"{arguments.variant} on {arguments.provider}"
    else:
        # A bundle that does not load is told of before anything is written.
        with QuestionAnswerer.load(named, **load) as qa:
            info = qa.info()
        load["variant"] = info.variant
        graph = info.graph
        _share_cores(arguments, on_cpu=info.providers[0].startswith("CPU"))
    digest = sha256(open_bundle(named, arguments.revision).manifest.to_json()).hexdigest()[:16]
    threads = arguments.threads
    return Work(bundle=named, load={**load, "threads": threads}, answer=answer), f"{graph} of {digest}"


def _share_cores(arguments: Namespace, *, on_cpu: bool) -> None:
    """Fill in how many workers there are, and how many threads each has."""
    from fastspan.machine.cpu import usable_cores

    cores = usable_cores()
    if arguments.workers is None:
        arguments.workers = cores if on_cpu and arguments.threads is None else 1
    if arguments.threads is None and on_cpu:
        arguments.threads = max(1, cores // arguments.workers)


def _engine(arguments: Namespace, work: Work) -> Engine:
    from fastspan.bulk.engines import InProcess, Processes

    if arguments.engine == "ray":
        from fastspan.bulk.ray_engine import RayActors

        return RayActors(work, arguments.workers or 1, arguments.threads or 1, arguments.gpus)
    return InProcess(work) if arguments.workers == 1 else Processes(work, arguments.workers)


def _tell(arguments: Namespace, counts: Counts) -> None:
    from fastspan.bulk.work_folder import rejects_beside

    rejects = arguments.rejects or rejects_beside(Path(arguments.out))
    if arguments.json:
        write_json({"answered": counts.answered, "rejected": counts.rejected, "out": arguments.out})
        return
    parts = [f"{counts.answered:,} rows answered"]
    if counts.rejected:
        parts.append(f"{counts.rejected:,} rejected: see {rejects}")
    elif arguments.source == _STREAM:
        arguments.rejects.unlink()
    sys.stderr.write(f"{', '.join(parts)}\n")
