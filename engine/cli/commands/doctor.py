"""``fastspan doctor``: what this machine and installation offer."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from fastspan.cli.arguments import bundle_of, bundle_option, json_option
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, labelled, write, write_json
from fastspan.errors import BundleError

if TYPE_CHECKING:
    from fastspan.cli.diagnosis import Diagnosis

NAME = "doctor"
HELP = "show what this machine and installation offer"
EXAMPLES = (
    "fastspan doctor",
    "fastspan doctor --bundle models/exported/minilm-l6-squad2 --json > machine.json",
)


def parents() -> list[CommandParser]:
    """Return the parsers of the arguments that ``fastspan doctor`` shares with other commands."""
    return [bundle_option("the bundle whose profile is looked for, a folder"), json_option()]


def add_arguments(_parser: ArgumentParser) -> None:
    """Declare none: it shares all its arguments."""


def run(arguments: Namespace) -> int:
    """Show what was found. Something that is missing is a finding, not an error."""
    from fastspan.cli.diagnosis import diagnose

    try:
        bundle = bundle_of(arguments.bundle)
    except BundleError:
        bundle = None
    found = diagnose(bundle)
    if arguments.json:
        write_json(found.to_dict(), indent=2)
    else:
        _show(found)
    return 0


def _show(found: Diagnosis) -> None:
    style = Style(sys.stdout)
    installed = [f"{name} {version}" for name, version in found.packages.items() if version]
    absent = [name for name, version in found.packages.items() if not version]
    runtime = [f"{name} {version}" for name, version in found.runtime_wheels.items()]
    has = [name for name, here in found.instruction_sets.items() if here]
    lacks = [name for name, here in found.instruction_sets.items() if not here]
    write(labelled("python", [f"{found.python} on {found.platform}"]))
    write(labelled("packages", [*installed, *([f"not installed: {', '.join(absent)}"] if absent else [])]))
    write(labelled("onnxruntime", runtime or ["not installed: pip install 'fastspan[cpu]', or [gpu]"]))
    write(labelled("providers", found.providers))
    write(
        labelled(
            "cpu",
            [
                found.cpu,
                f"has {', '.join(has) or 'no instruction set that is known to matter'}",
                *([f"lacks {', '.join(lacks)}"] if lacks else []),
                f"{found.usable_cores} of {found.cores} cores usable by this process",
            ],
        )
    )
    write(labelled("cuda", _cuda(found)))
    write(labelled("kernels", [found.kernels]))
    write(labelled("auto", _auto(found)))
    write(labelled("profile", [found.profile]))
    if found.problems:
        write(style.bad(labelled("problems", found.problems)))
    else:
        write(style.good(labelled("problems", ["none found"])))


def _cuda(found: Diagnosis) -> list[str]:
    cuda = found.cuda
    lines = [f"driver for CUDA up to {cuda.driver}" if cuda.driver else "no driver", *cuda.devices]
    if cuda.built_for is not None:
        lines.append(f"the installed ONNX Runtime was built for CUDA {cuda.built_for}")
    elif cuda.devices:
        lines.append("the installed ONNX Runtime is no CUDA build: pip install 'fastspan[gpu]' brings one")
    else:
        lines.append("the installed ONNX Runtime is no CUDA build")
    # Without a driver and without a build for it, nobody asked for the libraries.
    if cuda.missing and (cuda.driver or cuda.built_for):
        lines.append(f"missing: {', '.join(cuda.missing)}")
    return lines


def _auto(found: Diagnosis) -> list[str]:
    if found.auto.provider is None:
        return ["nothing: ONNX Runtime is not usable"]
    return [
        f"{found.auto.provider}: {found.auto.reason}",
        found.auto_variant_reason if found.auto_variant else f"no variant: {found.auto_variant_reason}",
    ]
