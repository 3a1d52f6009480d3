"""What ``make demo`` shows: the variants of a bundle, and answers from real text."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from fastspan import QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.bundle.variants import Variant
from fastspan.results import Prediction

__all__ = ["main"]

_FARM = (
    "The option to convert models between FARM and transformers gives freedom to the user and let people "
    "easily switch between frameworks."
)
_NORMANS = (
    "The Normans gave their name to Normandy, a region in the north of France. They descended from Norse "
    "raiders who came from Denmark, Iceland and Norway and who, under their leader Rollo, swore fealty to "
    "King Charles III of West Francia. Their identity took shape in the first half of the 10th century."
)
_TEA = (
    "Put two spoons of loose tea into the pot for each cup. Pour water at 80 °C over green tea and let it "
    "stand for two minutes; black tea takes boiling water and four minutes. Rinse the pot with hot water "
    "before use, and never with soap."
)
_CJK = (
    "The company was founded in 1949 in Kyōto (京都) by Tanaka Kiyoshi (田中清) 🎌 and moved to Ōsaka "
    "in 1962."
)
# Filler that says nothing of the keeper pushes the answer far beyond the first window of 384 tokens.
_LIGHTHOUSE = (
    " ".join(
        f"In the year {year} the lighthouse was painted again, the lamp was cleaned on every second "
        f"evening, and {year - 1700} ships passed the rocks without harm."
        for year in range(1801, 1827)
    )
    + " The last keeper, Agnes Holm, left the island in 1931 when the lamp was made to run by itself."
)
_QUESTIONS: Sequence[tuple[str, str]] = (
    ("Why is model conversion important?", _FARM),
    ("Who led the Norse raiders?", _NORMANS),
    ("How long should green tea stand?", _TEA),
    ("Where was the company founded?", _CJK),
    ("Who was the last keeper of the lighthouse?", _LIGHTHOUSE),
    ("What is the population of Normandy today?", _NORMANS),
)
_ROUNDS = 15


def main(arguments: Sequence[str] | None = None) -> None:
    """Show a bundle's variants and its answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", help="the folder that `fastspan export` wrote")
    folder = parser.parse_args(arguments).bundle
    console = Console(highlight=False)
    manifest = Bundle.open(folder).manifest
    title = f"{manifest.name}: one answer from {len(_NORMANS.split())} words, text in, answer out"
    table = Table(title=title, box=box.SIMPLE)
    for heading in ("variant", "size", "checked against", "Δ logit", "equal", "per answer"):
        table.add_column(heading, justify="left" if heading in ("variant", "checked against") else "right")
    for name, variant in manifest.variants.items():
        with QuestionAnswerer.load(folder, variant=name, provider="cpu") as qa:
            milliseconds = _median_milliseconds(qa)
            table.add_row(name, _size(variant), *_parity(variant), f"{milliseconds:.1f} ms")
    console.print(table)
    console.print("Δ logit: the largest difference of a logit; equal: the share of equal answers.")
    if manifest.confidence is not None:
        fitted, error = manifest.confidence.fitted_on, manifest.confidence.ece
        console.print(
            f"Confidence is calibrated on {fitted.questions:,} questions of {fitted.name}; on "
            f"{fitted.reported_on_questions:,} others its expected error is {error:.3f}."
        )
    with QuestionAnswerer.load(folder) as qa:
        info = qa.info()
        console.print(f"\n{info.reason} Answering on {info.providers[0]}.\n")
        for (question, context), prediction in zip(_QUESTIONS, qa.answer_many(_QUESTIONS), strict=True):
            _show(console, question, context, prediction)


def _median_milliseconds(qa: QuestionAnswerer) -> float:
    samples = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        qa.answer(_QUESTIONS[1][0], _NORMANS)
        samples.append(time.perf_counter() - began)
    return statistics.median(samples[3:]) * 1e3


def _size(variant: Variant) -> str:
    return f"{variant.bytes / 1e6:.1f} MB"


def _parity(variant: Variant) -> tuple[str, str, str]:
    parity = variant.parity
    if parity is None:
        return "(is the reference)", "–", "–"
    return (
        f"{parity.reference}, {parity.questions} questions",
        f"{parity.max_logit_difference:.2g}",
        f"{parity.equal_answers:.1%}",
    )


def _show(console: Console, question: str, context: str, prediction: Prediction) -> None:
    words = len(context.split())
    console.print(f"[bold]{question}[/bold]  [dim](from {words} words)[/dim]")
    sure = "not calibrated" if prediction.confidence is None else f"confidence {prediction.confidence:.2f}"
    if prediction.answer is None:
        console.print(f"  no answer in the passage  [dim]{sure}[/dim]")
    else:
        answer = prediction.answer
        place = f"characters {answer.start}–{answer.end}, {sure}"
        console.print(f"  [green]{answer.text}[/green]  [dim]{place}[/dim]")


if __name__ == "__main__":
    main()
