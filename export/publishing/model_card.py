"""The README.md of a bundle: where it came from, what is in it, how it compares, how to use it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastspan.bundle.manifest import Manifest
from fastspan.bundle.variants import Graph, Variant
from fastspan.export.publishing.markdown_table import markdown_table

__all__ = ["model_card", "uncovered_in"]

_COLUMNS = (
    "variant", "made for", "files", "reference", "questions", "largest logit difference", "equal answers",
    "gate",
)  # fmt: skip


_FROM_FOLDER = """```python
from fastspan import QuestionAnswerer

qa = QuestionAnswerer.load("FOLDER")  # this folder
print(qa.answer("Who wrote it?", "Ada wrote it."))
```
"""


def model_card(
    manifest: Manifest, source_card: str | None, not_run: Sequence[str] = (), *, usage: str = _FROM_FOLDER
) -> str:
    """Write the card of a bundle in Markdown.

    Args:
        manifest: The bundle's manifest; its parity figures are quoted.
        source_card: The checkpoint's own card; its front matter (licence, language …) is kept.
        not_run: Files of the graphs that the exporting machine does not run, which no figure covers.
        usage: How to use it, in Markdown; by default from a folder.
    """
    source = manifest.source
    revision = f" at revision `{source.revision}`" if source.revision else ""
    shown = _interchange_first(manifest)[0]
    inputs = ", ".join(f"`{name}`" for name in shown.inputs)
    loader = "any ONNX runtime" if shown.target == "any" else "ONNX Runtime"
    table = markdown_table(_COLUMNS, map(_row, manifest.variants.values()), texts=len(_COLUMNS))
    return f"""{_front_matter(source_card)}
# {manifest.name}: a FastSpan bundle

Extractive question answering for ONNX Runtime, exported from `{source.id}`{revision}
by FastSpan {manifest.created_with} ({manifest.model.route} route, {manifest.model.model_type},
{manifest.model.layers} layers of {manifest.model.hidden_size}).

{table}
{_uncovered(not_run)}
{usage}
`{shown.file}` takes {inputs} and returns `start_logits` and
`end_logits`; {loader} loads it. `fastspan.json` holds every file's checksum, the no-answer
threshold and the calibration of the confidence.

{_calibration(manifest)}
"""


def _calibration(manifest: Manifest) -> str:
    no_answer, confidence = manifest.no_answer, manifest.confidence
    if no_answer.fitted_on is None:
        return "The no-answer threshold is 0, and the confidence is not calibrated."
    fitted = f"fitted on {no_answer.fitted_on.questions:,} questions of {no_answer.fitted_on.name}"
    sure = "The confidence is not calibrated."
    if confidence is not None:
        sure = f"The confidence's calibration error was {confidence.ece:.3f} on held-out questions."
    return f"The no-answer threshold is {no_answer.threshold:.3f}, {fitted}. {sure}"


def uncovered_in(card: str) -> list[str]:
    """The files of which a bundle's card says that no figure covers them."""
    said = re.search(r"^No figure covers (.*?): made for other machines", card, re.MULTILINE)
    return re.findall(r"`([^`]+)`", said[1]) if said else []


def _interchange_first(manifest: Manifest) -> list[Graph]:
    """The bundle's graphs, the one that any runtime loads before those that were made for one."""
    graphs = [graph for variant in manifest.variants.values() for graph in variant.graphs]
    return sorted(graphs, key=lambda graph: graph.target != "any")


def _row(variant: Variant) -> tuple[str, ...]:
    files = ", ".join(f"`{graph.file}`" for graph in variant.graphs)
    parity = variant.parity
    measured: tuple[str, ...] = ("–",) * 5
    if parity is not None:
        verdict = "passed" if parity.passed else "missed, loss accepted"
        measured = (
            parity.reference,
            str(parity.questions),
            f"{parity.max_logit_difference:.2g}",
            f"{parity.equal_answers:.1%}",
            f"{parity.gate}: {verdict}",
        )
    return (variant.name, variant.target, files, *measured)


def _uncovered(not_run: Sequence[str]) -> str:
    if not not_run:
        return ""
    files = ", ".join(f"`{file}`" for file in not_run)
    return (
        f"\nNo figure covers {files}: made for other machines than the one\n"
        "that exported this bundle, they were not run there.\n"
    )


def _front_matter(card: str | None) -> str:
    """The source card's YAML header, with the library it is for now."""
    lines: list[str] = []
    if card is not None and card.startswith("---\n") and "\n---" in card[4:]:
        header = card[4 : card.index("\n---", 4)]
        lines = [
            line for line in header.splitlines() if not line.startswith(("library_name:", "pipeline_tag:"))
        ]
    return "\n".join(["---", *lines, "pipeline_tag: question-answering", "library_name: fastspan", "---", ""])
