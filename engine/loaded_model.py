"""What an answerer holds from its loading to its closing, and what it says of that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastspan.bundle.hub.cache import hub_snapshot
from fastspan.errors import Closed, InputError
from fastspan.loading import LoadedBundle, load_bundle
from fastspan.options import LoadOptions, LoadOverrides
from fastspan.results import Info
from fastspan.runtime.workers import Queued, Runs, Workers
from fastspan.stage_times import StageClock
from fastspan.stages.pairs import Stages
from fastspan.stages.streaming import CHUNK, GPU_CHUNK
from fastspan.text.encoder import EncodedPair

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["LoadedModel"]


class LoadedModel:
    """A bundle that is loaded, until it is closed. It works in a forked child, and pickles as its source."""

    def __init__(self, loaded: LoadedBundle) -> None:
        """Use ``load``, which makes what this takes."""
        self._manifest = loaded.bundle.manifest
        self._source = (loaded.bundle.folder, loaded.options)
        throughput = loaded.options.optimize_for == "throughput"
        self._workers = Workers(loaded.settings.workers) if throughput else None
        self._info = _describe(loaded)
        # Closing forgets what was loaded; calls in flight hold it until they have finished.
        self._held: Stages | None = Stages(loaded)

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        options: LoadOptions | None = None,
        **overrides: Unpack[LoadOverrides],
    ) -> Self:
        """Load a bundle and make it ready to answer.

        Args:
            source: The folder that ``fastspan export`` wrote, or the hub id of a repository that holds one.
                A repository that holds a checkpoint is exported once, into the user's cache.
            revision: With a hub id: branch, tag or commit.
            options: How to load it.
            **overrides: Single fields of ``LoadOptions``: ``variant``, ``provider``, ``provider_options``,
                ``optimize_for``, ``threads``, ``spinning``, ``token_budget``, ``gpu_memory_limit``,
                ``profile``, ``kernels``, ``domain`` or ``widen``.

        Raises:
            BundleError: The bundle is missing, damaged or lacks the variant.
            ProviderError: The requested execution provider cannot run it.
            CheckpointError: The hub id is that of a checkpoint that cannot be exported.
            MissingDependency: onnxruntime (or, for a hub id, huggingface_hub or what exports a checkpoint) is
                not installed.
            InputError: An option is unknown or unusable.
        """
        if not isinstance(options, LoadOptions | None):
            raise InputError(f"options must be LoadOptions or None, not {type(options).__name__}.")
        return cls(load_bundle(source, revision, (options or LoadOptions()).override(overrides)))

    def info(self) -> Info:
        """Say what is loaded, why, and what it runs on; once closed, what that was."""
        stages = self._held
        retries = 0 if stages is None else stages.loaded.session.out_of_memory_retries
        if retries > self._info.out_of_memory_retries:
            self._info = replace(self._info, out_of_memory_retries=retries)
        return self._info

    def close(self) -> None:
        """Let calls in flight finish, refuse further ones, and give the model's memory back.

        That happens at once, or when the last call in flight has finished. Closing twice does nothing.
        """
        self.info()
        self._held = None
        if self._workers is not None:
            self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_again, (type(self), *self._source)

    def __repr__(self) -> str:
        state = "closed" if self._held is None else f"{self._info.variant} on {self._info.providers[0]}"
        return f"<{type(self).__name__} {self._info.name}: {state}>"

    @property
    def stages(self) -> Stages:
        """The stages of an answer, for a caller that orders them itself; they hold what was loaded.

        Raises:
            Closed: ``close`` was called.
        """
        stages = self._held
        if stages is None:
            raise Closed("This answerer was closed; load the bundle again.")
        return stages

    @property
    def _chunk(self) -> int:
        return GPU_CHUNK if self.stages.loaded.session.graph.target == "cuda" else CHUNK

    @property
    def _ahead(self) -> int:
        # With workers, the next chunk is encoded and queued while the one before it still runs.
        return 1 if self._workers is not None else 0

    def _start(self, pairs: Sequence[EncodedPair]) -> Runs:
        """Start the runs of a chunk; those that no thread takes are over when this returns."""
        stages = self.stages
        groups, batches = stages.plan(pairs)
        clock = StageClock()
        logits = stages.start(batches, None, self._workers)
        runs = Runs(pairs, groups, logits if isinstance(logits, Queued) else list(logits))
        clock.lap("run")
        return runs


def _describe(loaded: LoadedBundle) -> Info:
    manifest, options = loaded.bundle.manifest, loaded.options
    calibration = manifest.calibration(options.domain)
    snapshot = hub_snapshot(loaded.bundle.folder)
    return Info(
        bundle=str(loaded.bundle.folder),
        name=manifest.name,
        variant=loaded.choice.variant.name,
        reason=loaded.choice.reason,
        graph=loaded.session.graph.file,
        providers=loaded.session.providers,
        threads=loaded.settings.threads * loaded.settings.workers,
        workers=loaded.settings.workers,
        optimize_for=options.optimize_for,
        profile=loaded.profile,
        max_length=manifest.max_length,
        overlap=manifest.overlap,
        no_answer_threshold=calibration.no_answer.threshold,
        calibrated=calibration.confidence is not None,
        calibrated_for_sets=calibration.sets is not None,
        domain=options.domain,
        domains=tuple(manifest.domains),
        onnxruntime=loaded.onnxruntime,
        revision=snapshot.commit if snapshot is not None else manifest.source.revision,
    )


def _load_again(kind: type[LoadedModel], folder: Path, options: LoadOptions) -> LoadedModel:
    return kind.load(folder, options=options)
