"""``fastspan answer``: one question, one text."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from fastspan.bundle.whole_files import refuse_device
from fastspan.cli.argument_types import path, positive
from fastspan.cli.arguments import (
    FILES,
    bundle_of,
    bundle_option,
    completed_with,
    decoding_options,
    domain_option,
    json_option,
    load_arguments,
    load_options,
)
from fastspan.cli.commands import UsageError
from fastspan.cli.outputs import ready_file, write_page
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, megabytes, one_line, write, write_json
from fastspan.errors import InputError

if TYPE_CHECKING:
    from fastspan.options import AnswerOverrides
    from fastspan.results import Answer, Info, Prediction

NAME = "answer"
HELP = "answer a question from a text"
EXAMPLES = (
    'fastspan answer "Who led the Norse raiders?" normans.txt',
    'fastspan answer "Who led the Norse raiders?" normans.txt --top-k 3 --html normans.html',
    'curl -s https://example.org/page.txt | fastspan answer "When was it built?" --json --top-k 3',
)

# Bytes of a text; tokenizing takes many times as much memory.
_LARGEST_TEXT = 100_000_000

# Characters of a sentence that are shown on either side of an answer.
_WIDEST = 160


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan answer`` shares with other commands."""
    return [
        bundle_option(),
        json_option(),
        decoding_options("30; with --decoding pipeline 15"),
        domain_option("decide by this one of the bundle's calibrations (default: the general one)"),
        *load_options(),
    ]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``fastspan answer``."""
    parser.add_argument("question", metavar="QUESTION", help="what is asked")
    file = parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help="the text that may hold the answer, in UTF-8 (default: -, standard input)",
    )
    completed_with(file, FILES)
    parser.add_argument(
        "--top-k", type=positive, default=1, metavar="N", help="how many distinct spans to show (default: 1)"
    )
    parser.add_argument(
        "--decoding",
        choices=("squad", "pipeline"),
        default="squad",
        help="SQuAD 2.0's reference, or what the pipeline of transformers 4.57 returned (default: squad)",
    )

    page = parser.add_argument(
        "--html",
        metavar="OUT",
        type=path,
        help="also write the text with the answers marked there, as one page of HTML",
    )
    completed_with(page, FILES)


def run(arguments: Namespace) -> int:
    """Answer, and show the answer where it stands."""
    from fastspan.answerer import QuestionAnswerer

    overrides: AnswerOverrides = {
        "top_k": arguments.top_k,
        "decoding": arguments.decoding,
        "max_answer_length": arguments.max_answer_length,
        "domain": arguments.domain,
    }
    if arguments.no_answer_threshold is not None:
        if arguments.decoding != "squad":
            raise UsageError("--no-answer-threshold goes with --decoding squad")
        overrides["no_answer_threshold"] = arguments.no_answer_threshold
    bundle = bundle_of(arguments.bundle)
    if arguments.html is not None:
        ready_file(arguments.html)
    context = _read(arguments.file)
    with QuestionAnswerer.load(bundle, **load_arguments(arguments)) as qa:
        prediction = qa.answer(arguments.question, context, **overrides)
        info = qa.info()
    if arguments.html is not None:
        note = _confidence(prediction, info)
        if prediction.answer is None:
            note = f"No answer in the text; the closest spans are marked. {note}"
        page = prediction.marked(context).to_page(arguments.question, note)
        write_page(arguments.html, page)
    if arguments.json:
        write_json({"question": arguments.question, **prediction.to_dict(), "variant": info.variant})
    else:
        _show(prediction, context, info)
    return 0


def _read(file: str) -> str:
    """The text of a file or of standard input.

    Line ends stay as they are, so that offsets are those of the file; a byte order mark is left out.
    """
    if file == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("there is no text: name a FILE, or pipe the text to standard input")
        data, place = sys.stdin.buffer.read(_LARGEST_TEXT + 1), "standard input"
    else:
        place = file
        try:
            refuse_device(Path(file))
            with Path(file).open("rb") as text_file:
                data = text_file.read(_LARGEST_TEXT + 1)
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error
    if len(data) > _LARGEST_TEXT:
        raise InputError(
            f"{place} is larger than {megabytes(_LARGEST_TEXT)}: ask about a part of it, which the split "
            "program cuts off, for example."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place} is not text in UTF-8 (byte {error.start}): convert it first, for example with iconv."
        ) from error
    if not text.strip():
        raise InputError(f"{place} holds no text: give the text that may hold the answer.")
    return text


def _show(prediction: Prediction, context: str, info: Info) -> None:
    style = Style(sys.stdout)
    confidence = _confidence(prediction, info)
    if prediction.answer is None:
        write(f"{style.strong('no answer in the text')}  {style.faint(confidence)}")
        if prediction.answers:
            closest = prediction.answers[0]
            write(f"closest: {_in_sentence(closest, context, style)}")
            write(style.faint(_place(closest)))
    else:
        write(_in_sentence(prediction.answer, context, style))
        write(style.faint(f"{confidence}, {_place(prediction.answer)}"))
    for rank, answer in enumerate(prediction.answers[1:], start=2):
        write(f"{rank}. {one_line(answer.text)}  {style.faint(_place(answer))}")


def _confidence(prediction: Prediction, info: Info) -> str:
    """The confidence in whole percent, which rounding makes neither certain nor impossible."""
    if prediction.confidence is None:
        return "no confidence (pipeline decoding)" if info.calibrated else "no confidence (not calibrated)"
    percent = round(100 * prediction.confidence)
    return "confidence " + {0: "<1%", 100: ">99%"}.get(percent, f"{percent}%")


def _place(answer: Answer) -> str:
    return f"characters {answer.start} to {answer.end}, score {answer.score:.2f}"


def _in_sentence(answer: Answer, context: str, style: Style) -> str:
    """The answer, marked, within the sentence it stands in."""
    start, end = answer.start, answer.end
    begin, stop = answer.sentence(context)
    before, behind = context[begin:start], context[end:stop].rstrip()
    if len(before) > _WIDEST:
        before = "…" + before[-_WIDEST:].partition(" ")[2]
    if len(behind) > _WIDEST:
        behind = behind[:_WIDEST].rpartition(" ")[0] + "…"
    return f"{one_line(before).lstrip()}{style.answer(one_line(answer.text))}{one_line(behind)}"
