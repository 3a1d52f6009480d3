"""The model card of a repository: what the hub's search, its widgets and its readers go by.

Figures come from the bundle's own records alone. The checkpoint's ``model-index`` is left out: it says how
the checkpoint did, not these graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import fastspan
from fastspan.bundle.beside.evaluations import Evaluation, read_evaluations
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Manifest
from fastspan.errors import BundleError
from fastspan.export.hub.other_runtimes import usage_of_others
from fastspan.export.publishing.markdown_table import markdown_table
from fastspan.export.publishing.model_card import model_card, uncovered_in

__all__ = ["CARD", "hub_card"]

CARD = "README.md"
"""The card's file name."""

_TAGS = ("question-answering", "extractive-qa", "onnx")
_SCORE_COLUMNS = ("variant", "questions of", "questions", "EM", "F1", "no-answer threshold", "provider")


def hub_card(bundle: Bundle, repository: str) -> tuple[str, list[str]]:
    """Write the card of a repository that holds a bundle.

    Where the bundle's own card was edited since the export, its text stays as it is, and only what programs
    read, the YAML at its head, is completed.

    Args:
        bundle: The bundle.
        repository: The id that it will have, ``owner/name``.

    Returns:
        The card, and what it does not say though readers will look for it: sentences.

    Raises:
        BundleError: The bundle's card begins with YAML that cannot be read, or its record of evaluations is
            damaged.
    """
    from huggingface_hub import ModelCard

    manifest = bundle.manifest
    kept = _own_card(bundle)
    own = kept.decode("utf-8", errors="replace")
    measured = read_evaluations(bundle)
    text = own
    if not _was_edited(bundle, kept):
        held = [path for variant in manifest.variants.values() for path in variant.files]
        not_run = [file for file in uncovered_in(own) if file in held]
        usage = f"{_usage(repository)}{usage_of_others(manifest, repository)}{_scores(measured)}"
        text = model_card(manifest, own, not_run, usage=usage)
    try:
        card = ModelCard(text, ignore_metadata_errors=True)
    except Exception as error:
        raise BundleError(
            f"{bundle.folder / CARD} begins with YAML that cannot be read ({' '.join(str(error).split())}): "
            "mend what stands between its first two lines of three hyphens."
        ) from error
    _complete(card.data, manifest, repository, measured)
    return f"{str(card).rstrip()}\n", _missing(card.data, measured)


def _own_card(bundle: Bundle) -> bytes:
    try:
        return (bundle.folder / CARD).read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise BundleError(f"{bundle.folder / CARD} cannot be read ({error.strerror}).") from error


def _was_edited(bundle: Bundle, card: bytes) -> bool:
    """Whether somebody wrote into the card since the export, which put it down with its digest."""
    record = bundle.manifest.files.get(CARD)
    return bool(card) and (record is None or sha256(card).hexdigest() != record.sha256)


def _complete(data: Any, manifest: Manifest, repository: str, measured: Sequence[Evaluation]) -> None:
    """Fill in what programs read."""
    from huggingface_hub import EvalResult

    data.library_name = "fastspan"
    data.pipeline_tag = "question-answering"
    data.tags = list(dict.fromkeys([*(data.tags or ()), *_TAGS]))
    source = manifest.source
    if source.revision is not None and source.id != repository:
        # From the hub: the checkpoint itself is what this is made of, not what that was made of.
        data.base_model = source.id
        if set(manifest.variants) != {"fp32"}:
            data.base_model_relation = "quantized"
    data.eval_results = [EvalResult(**result) for each in measured for result in _results(each)] or None
    data.model_name = repository.partition("/")[2] if data.eval_results else None


def _results(measured: Evaluation) -> list[dict[str, Any]]:
    """One evaluation as the two metrics that ``model-index`` has names for."""
    hub_id, _, split = (measured.hub_data or "").partition(":")
    common = {
        "task_type": "question-answering",
        "task_name": "Extractive question answering",
        # The hub wants an id here; a file has none but its name.
        "dataset_type": hub_id or measured.data,
        "dataset_name": measured.data,
        "dataset_split": split or None,
        "dataset_args": {"questions": measured.questions, "sha256": measured.data_sha256},
        "metric_args": {
            "variant": measured.variant,
            "graph": measured.graph,
            "no_answer_threshold": measured.no_answer_threshold,
            "max_answer_length": measured.max_answer_length,
        },
    }
    return [
        {**common, "metric_type": kind, "metric_name": f"{name} ({measured.variant})", "metric_value": value}
        for kind, name, value in (
            ("exact_match", "Exact match", round(measured.exact, 3)),
            ("f1", "F1", round(measured.f1, 3)),
        )
    ]


def _scores(measured: Sequence[Evaluation]) -> str:
    if not measured:
        return ""
    rows = [
        (
            each.variant,
            each.data,
            f"{each.questions:,}",
            f"{each.exact:.2f}",
            f"{each.f1:.2f}",
            f"{each.no_answer_threshold:.4g}",
            each.provider,
        )
        for each in measured
    ]
    table = markdown_table(_SCORE_COLUMNS, rows, texts=2)
    how = "Measured with `fastspan eval`, in percent, as SQuAD 2.0's evaluator counts."
    return f"\n## Scores\n\n{table}\n\n{how}\n"


def _usage(repository: str) -> str:
    return f"""```sh
pip install 'fastspan[cpu,hub]>={fastspan.__version__}'
```

```python
from fastspan import QuestionAnswerer

qa = QuestionAnswerer.load("{repository}")
print(qa.answer("Who wrote it?", "Ada wrote it."))
```
"""


def _missing(data: Any, measured: Sequence[Evaluation]) -> list[str]:
    notes = []
    if not data.license:
        notes.append(
            "The card names no licence, because the checkpoint's card names none: write `license: …` at the "
            f"head of the bundle's {CARD}."
        )
    if not data.base_model:
        notes.append("The card names no base model: the bundle was not exported from a hub id.")
    if not measured:
        notes.append(
            "The card holds no scores: `fastspan eval BUNDLE --data DATA --record` measures and keeps them."
        )
    return notes
