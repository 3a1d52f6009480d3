"""A bundle as a folder that a hosting platform takes: the bundle, what answers there, what to run next."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

import fastspan
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Manifest
from fastspan.bundle.source import open_bundle
from fastspan.bundle.variants import VariantName
from fastspan.errors import InputError
from fastspan.export.publishing.slim import slim
from fastspan.hosting.own_folder import files_of, whole_folder
from fastspan.hosting.triton_models import write_models

__all__ = ["PLATFORMS", "Package", "Platform", "package"]

Platform = Literal["hf-endpoint", "sagemaker", "azureml", "vertex", "triton", "kserve", "container"]

PLATFORMS: tuple[Platform, ...] = get_args(Platform)
"""What a bundle can be packaged for."""

_TEMPLATES = Path(str(resources.files("fastspan.hosting"))) / "templates"
_WHEEL = re.compile(r"fastspan-[A-Za-z0-9_.+!]+-[a-z0-9_.]+-[a-z0-9_.]+-[A-Za-z0-9_.]+\.whl")


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was written.

    Attributes:
        folder: Where it lies.
        platform: What it is for.
        files: The paths in it.
        bytes: Its size.
        advice: What to do next, a sentence.
    """

    folder: Path
    platform: Platform
    files: tuple[str, ...]
    bytes: int
    advice: str


@dataclass(frozen=True, slots=True)
class _Draft:
    """A package in the making.

    Attributes:
        folder: Where to.
        source: The folder or hub id of the bundle that goes into it.
        bundle: The bundle.
        variants: Which of its variants.
        wheel: FastSpan's wheel that goes along; None: it is installed from an index.
        words: Placeholder → what stands for it in the templates.
    """

    folder: Path
    source: str | os.PathLike[str]
    bundle: Bundle
    variants: Sequence[VariantName]
    wheel: Path | None
    words: Mapping[str, str]

    def place(self, template: str, path: str, **more: str) -> None:
        """Write a template, filled in, to a path of the package."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.filled(template, **more), encoding="utf-8", newline="\n")

    def filled(self, template: str, **more: str) -> str:
        """Return a template with its placeholders filled in."""
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        return re.sub(r"@([A-Z_]+)@", lambda found: {**self.words, **more}[found[1]], text)

    def copy_bundle(self, path: str) -> None:
        """Copy the bundle with its variants, verified as it is read."""
        slim(self.source, self.folder / path, self.variants)

    def requirements(self, path: str, extras: str) -> None:
        """Say what pip is to install, and lay the wheel beside it, which pip finds relative to that file."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = [_requirement(extras)]
        if self.wheel is not None:
            (target.parent / "wheels").mkdir()
            shutil.copyfile(self.wheel, target.parent / "wheels" / self.wheel.name)
            lines.insert(0, "--find-links wheels")
        target.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")

    def containerfile(self, template: str, wheels_to: str) -> None:
        """Write the recipe of an image."""
        line = f"COPY wheels {wheels_to}\n" if self.wheel is not None else ""
        self.place(template, "Containerfile", COPY_WHEELS=line)


def package(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    platform: Platform,
    *,
    variants: Sequence[VariantName] | None = None,
    wheel: str | os.PathLike[str] | None = None,
) -> Package:
    """Write a bundle as a folder that a hosting platform takes.

    Args:
        bundle: The bundle's folder, or a hub id.
        out: The package's folder. A package that lies there is replaced; anything else is refused.
        platform: What for.
        variants: Which variants go along; None: all. Triton runs the first, fp32 unless it is given.
        wheel: FastSpan's wheel to install there; None: pip gets this version from its index.

    Raises:
        InputError: ``platform``, ``variants`` or ``wheel`` is unusable, or ``out`` holds something else.
        BundleError: The bundle is missing or damaged or lacks a variant, or ``out`` cannot be written to.
        MissingDependency: ``bundle`` is a hub id and ``huggingface_hub`` is not installed.
    """
    if platform not in PLATFORMS:
        raise InputError(f"platform must be one of {', '.join(PLATFORMS)}, not {platform!r}.")
    chosen_wheel = None if wheel is None else _checked_wheel(Path(wheel), platform)
    opened = open_bundle(bundle, None)
    manifest = opened.manifest
    chosen = variants if variants is not None else [held.name for held in manifest.variants.values()]
    lacking = [name for name in chosen if name not in manifest.variants]
    if lacking or not chosen:
        raise InputError(
            f"variants must be some of {', '.join(manifest.variants)}, which the bundle holds, not "
            f"{', '.join(map(repr, lacking)) or 'none'}."
        )
    facts = {"platform": platform, "created_with": fastspan.__version__, "bundle": manifest.name}
    with whole_folder(out, facts) as folder:
        _WRITERS[platform](_Draft(folder, bundle, opened, chosen, chosen_wheel, _words(manifest)))
        files = tuple(files_of(folder))
        size = sum((folder / path).stat().st_size for path in files)
    return Package(Path(out), platform, files, size, _advice(Path(out), platform))


def _advice(out: Path, platform: Platform) -> str:
    if platform == "hf-endpoint":
        return f"`hf upload OWNER/NAME {out}` makes it the repository of an Inference Endpoint."
    return f"{out / 'README.md'} says what to run next."


def _checked_wheel(wheel: Path, platform: Platform) -> Path:
    if not _WHEEL.fullmatch(wheel.name) or not wheel.is_file():
        raise InputError(
            f"{wheel} is no wheel of FastSpan: `pip wheel --no-deps` makes one of its repository."
        )
    version = wheel.name.split("-")[1]
    if version != fastspan.__version__:
        raise InputError(
            f"{wheel} holds version {version}, and this is {fastspan.__version__}: give its wheel."
        )
    if platform == "azureml":
        raise InputError(
            "Azure ML makes the environment from an index and takes no wheel along: publish it to a feed of "
            "yours."
        )
    return wheel


def _requirement(extras: str) -> str:
    return f"fastspan[{extras}]=={fastspan.__version__}"


def _words(manifest: Manifest) -> dict[str, str]:
    # What platforms take as a name: small letters, digits and hyphens, a letter first, 32 at most.
    label = re.sub("[^a-z0-9]+", "-", manifest.name.lower()).strip("-")
    label = (label if label[:1].isalpha() else f"qa-{label}")[:32].rstrip("-")
    return {
        "NAME": manifest.name,
        "LABEL": label,
        "IMAGE": f"{label}:{fastspan.__version__}",
        "REQUIREMENT": _requirement("cpu"),
    }


def _for_hugging_face(draft: _Draft) -> None:
    # The repository itself is the bundle, so that its id can be loaded too.
    slim(draft.source, draft.folder / "repository", draft.variants)
    for entry in (draft.folder / "repository").iterdir():
        entry.rename(draft.folder / entry.name)
    (draft.folder / "repository").rmdir()
    draft.place("hf-endpoint/handler.py", "handler.py")
    draft.requirements("requirements.txt", "cpu")


def _for_sagemaker(draft: _Draft) -> None:
    draft.copy_bundle("bundle")
    draft.place("sagemaker/inference.py", "code/inference.py")
    draft.requirements("code/requirements.txt", "cpu")
    draft.place("sagemaker/README.md", "README.md")


def _for_azure(draft: _Draft) -> None:
    draft.copy_bundle("bundle")
    draft.place("azureml/score.py", "code/score.py")
    draft.place("azureml/environment.yml", "environment/environment.yml")
    draft.place("azureml/conda.yml", "environment/conda.yml")
    draft.place("azureml/deployment.yml", "deployment.yml")
    draft.place("azureml/README.md", "README.md")


def _for_vertex(draft: _Draft) -> None:
    draft.copy_bundle("bundle")
    draft.containerfile("vertex/Containerfile", "wheels")
    draft.requirements("requirements.txt", "cpu,serve")
    draft.place("vertex/README.md", "README.md")


def _for_triton(draft: _Draft) -> None:
    draft.bundle.verify_all()
    scripts = {part: draft.filled(f"triton/{part}.py") for part in ("encode", "decode")}
    # fp32 runs anywhere; of what was chosen, the first says so.
    variant = "fp32" if "fp32" in draft.variants else draft.variants[0]
    write_models(draft.bundle, draft.folder / "models", draft.words["LABEL"], variant, scripts)
    draft.containerfile("triton/Containerfile", "/tmp/requirements/wheels")  # noqa: S108 - in the image
    draft.requirements("requirements.txt", "cpu")
    draft.place("triton/README.md", "README.md")


def _for_container(draft: _Draft) -> None:
    draft.copy_bundle("bundle")
    draft.containerfile("container/Containerfile", "wheels")
    draft.requirements("requirements.txt", "cpu,serve")
    draft.place("container/README.md", "README.md")


def _for_kserve(draft: _Draft) -> None:
    _for_container(draft)
    draft.place("kserve/inference-service.yaml", "inference-service.yaml")
    draft.place("kserve/README.md", "README.md")


_WRITERS: Mapping[Platform, Callable[[_Draft], None]] = {
    "hf-endpoint": _for_hugging_face,
    "sagemaker": _for_sagemaker,
    "azureml": _for_azure,
    "vertex": _for_vertex,
    "triton": _for_triton,
    "kserve": _for_kserve,
    "container": _for_container,
}
