"""``fastspan info``: what is in a bundle."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from fastspan.bundle.beside.calibrations import Confidence, FittedOn, Guarantee, NoAnswer, SetConfidence
from fastspan.bundle.choose_variant import choose_variant
from fastspan.bundle.folder import Bundle
from fastspan.bundle.source import open_bundle
from fastspan.bundle.strict_json import named
from fastspan.bundle.variants import Variant
from fastspan.cli.arguments import bundle_argument, json_option, revision_option
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, labelled, megabytes, table, write, write_json
from fastspan.cli.variants_table import variants_table
from fastspan.errors import BundleError
from fastspan.kernels import best_path
from fastspan.machine.cpu import cpu_features
from fastspan.runtime.providers import provider_kind

NAME = "info"
HELP = "show what is in a bundle"
EXAMPLES = (
    "fastspan info models/exported/minilm-l6-squad2",
    "fastspan info bert-squad2 --json",
)


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan info`` shares with other commands."""
    return [bundle_argument(), revision_option(), json_option()]


def add_arguments(_parser: ArgumentParser) -> None:
    """Declare none: it shares all its arguments."""


def run(arguments: Namespace) -> int:
    """Show the manifest, what ``auto`` would choose from it here, and whether a profile holds."""
    from fastspan.cli.diagnosis import auto_provider, profile_state

    bundle = open_bundle(arguments.bundle, arguments.revision)
    auto = auto_provider()
    chosen, reason = None, auto.reason
    if auto.provider is not None:
        try:
            choice = choose_variant(
                bundle.manifest, "auto", provider_kind(auto.provider), cpu_features(), best_path()
            )
        except BundleError as error:
            reason = str(error)
        else:
            chosen, reason = choice.variant.name, choice.reason
    if arguments.json:
        here = {"provider": auto.provider, "variant": chosen, "reason": reason}
        shown = {"folder": str(bundle.folder), **asdict(bundle.manifest), "auto": here}
        write_json({**shown, "profile": profile_state(bundle)}, indent=2)
    else:
        told = [reason, f"It runs on {auto.provider}."] if chosen else [reason]
        _show(bundle, told, profile_state(bundle))
    return 0


def _show(bundle: Bundle, auto: list[str], profile: str) -> None:
    style = Style(sys.stdout)
    manifest = bundle.manifest
    source, model = manifest.source, manifest.model
    revision = f" at revision {named(source.revision)}" if source.revision else ""
    total = megabytes(sum(record.bytes for record in manifest.files.values()))
    write(style.strong(named(manifest.name)))
    write(labelled("folder", [f"{bundle.folder} ({len(manifest.files)} files, {total})"]))
    write(labelled("source", [f"{named(source.id)}{revision}, {source.format}"]))
    write(labelled("exported", [f"by fastspan {named(manifest.created_with)}, format {manifest.format}"]))
    write(
        labelled(
            "architecture",
            [
                f"{named(model.model_type)}, {model.layers} layers of {model.hidden_size}, {model.heads} "
                f"heads, {model.vocab_size:,} tokens; {model.route} route",
                f"windows of {manifest.max_length} tokens, {model.max_positions} at most; neighbours share "
                f"{manifest.overlap}",
            ],
        )
    )
    write(labelled("no answer", [_threshold(manifest.no_answer)]))
    write(labelled("confidence", [_confidence(manifest.confidence)]))
    write(labelled("sets", [_sets(manifest.sets)]))
    for name, calibration in manifest.domains.items():
        lines = [
            f"no answer {_threshold(calibration.no_answer)}",
            f"confidence {_confidence(calibration.confidence)}",
            f"sets {_sets(calibration.sets)}",
        ]
        write(labelled(f"domain {name}", lines))
    write(labelled("auto here", auto))
    write(labelled("profile", [profile]))
    write()
    header = ("variant", "graph", "target", "layout", "made for")
    rows = [row for variant in manifest.variants.values() for row in _graph_rows(variant)]
    write(table(header, rows, style))
    write()
    write(variants_table(list(manifest.variants.values()), style))


def _threshold(no_answer: NoAnswer) -> str:
    fitted, promise = no_answer.fitted_on, no_answer.guarantee
    origin = f"fitted on {fitted.questions} questions of {named(fitted.name)}" if fitted else "not fitted"
    return f"when null score - best span score exceeds {no_answer.threshold:g} ({origin}{_promise(promise)})"


def _promise(promise: Guarantee | None) -> str:
    if promise is None:
        return ""
    return f"; with a certainty of {promise.level:g}, a share of {promise.precision:g} of the answers match"


def _confidence(confidence: Confidence | None) -> str:
    if confidence is None:
        return "not calibrated"
    return f"calibrated on {_fitted(confidence.fitted_on, confidence.ece)}"


def _sets(sets: SetConfidence | None) -> str:
    if sets is None:
        return "not calibrated (fastspan calibrate --sets)"
    return (
        f"of {sets.passages} passages, calibrated on {_fitted(sets.fitted_on, sets.ece)}; no answer when the "
        f"margin exceeds {sets.threshold:g}{_promise(sets.guarantee)}"
    )


def _fitted(fitted: FittedOn, ece: float) -> str:
    return (
        f"{fitted.questions} questions of {named(fitted.name)}; expected calibration error {ece:.3f} on "
        f"{fitted.reported_on_questions} others"
    )


def _graph_rows(variant: Variant) -> list[tuple[str, ...]]:
    return [
        (
            variant.name if number == 0 else "",
            graph.file,
            graph.target,
            graph.layout,
            named(variant.target) if number == 0 else "",
        )
        for number, graph in enumerate(variant.graphs)
    ]
