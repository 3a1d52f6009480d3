"""The stages of an answer, for those who order them: texts to windows, to runs, to logits, to predictions.

``answerer`` takes them one after the other, ``streaming`` chunk by chunk; a service lets windows of several
requests share a run. What a request costs is known once it is encoded: the number of its windows and tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastspan.bundle.manifest import Manifest
from fastspan.decoding.pipeline import predict_pipeline
from fastspan.decoding.squad import decode_squad
from fastspan.errors import InputError
from fastspan.loading import LoadedBundle
from fastspan.options import AnswerOptions
from fastspan.results import Prediction
from fastspan.runtime.batching import plan_equal_lengths, plan_packed, plan_padded
from fastspan.runtime.session import Logits
from fastspan.runtime.workers import Workers
from fastspan.stage_times import StageClock
from fastspan.text.encoder import EncodedPair, Window
from fastspan.text.inputs import columns

__all__ = ["Stages", "decode"]


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one loaded bundle. Each is safe to call from many threads at once.

    Attributes:
        loaded: The bundle, its encoder and its session.
    """

    loaded: LoadedBundle

    def options(
        self, options: AnswerOptions | None, overrides: Mapping[str, Any], call: str = "answer"
    ) -> AnswerOptions:
        """Return options with ``overrides`` made, and the bundle's window and the load's domain filled in.

        Args:
            options: How to answer; None: every default.
            overrides: Single fields of ``AnswerOptions``.
            call: The method they were given to, for messages.

        Raises:
            InputError: They are no options, or a name or value is unusable, or the bundle lacks the domain.
        """
        if not isinstance(options, AnswerOptions | None):
            raise InputError(f"options must be AnswerOptions or None, not {type(options).__name__}.")
        manifest = self.loaded.bundle.manifest
        chosen = (options or AnswerOptions()).override(overrides, call)
        # Of the load's domain it is known that there is one.
        if chosen.domain is None:
            chosen = replace(chosen, domain=self.loaded.options.domain)
        else:
            manifest.calibration(chosen.domain)
        return chosen.within(manifest.max_length, manifest.overlap)

    def encode(
        self,
        texts: Sequence[tuple[str, str]],
        options: AnswerOptions,
        position: int | None = None,
        last: EncodedPair | None = None,
        between: Callable[[], None] | None = None,
    ) -> list[EncodedPair]:
        """Turn pairs of question and context into windows; each distinct string is tokenized once.

        Args:
            texts: The pairs.
            options: As ``options`` returns them.
            position: Where the first pair stands in the caller's list, for messages; None: a lone pair.
            last: A pair encoded before, whose context need not be tokenized again.
            between: Called now and then meanwhile; what it raises ends the work.

        Raises:
            InputError: A pair or an option is unusable.
            TooManyWindows: A pair makes more than ``options.max_windows``.
        """
        clock = StageClock()
        questions, contexts = columns(texts, position)
        pairs = self.loaded.encoder.encode(questions, contexts, options, position, last, between)
        clock.lap("encode")
        return pairs

    def share(self, lengths: Sequence[int], most: int | None = None) -> list[list[int]]:
        """Say which windows had best share a run.

        Args:
            lengths: Tokens in each window.
            most: About how many tokens may share a run; None: ``run_tokens``.

        Returns:
            Indexes into ``lengths``, each exactly once, a list a run. It depends on graph and provider what
            pays; ``fastspan.runtime.batching`` says why.
        """
        graph = self.loaded.session.graph
        budget = self.run_tokens if most is None else most
        if graph.target == "cpu-kernels" or graph.layout == "packed":
            return plan_packed(lengths, budget)
        if self._pads:
            return plan_padded(lengths, budget)
        return plan_equal_lengths(lengths, budget)

    @property
    def run_tokens(self) -> int:
        """About how many tokens share a run; a longer window is a run of its own."""
        loaded, graph = self.loaded, self.loaded.session.graph
        if graph.target != "cpu-kernels" and (graph.layout == "packed" or self._pads):
            return loaded.options.token_budget
        return loaded.settings.batch_tokens

    @property
    def _pads(self) -> bool:
        session = self.loaded.session
        return session.graph.layout == "padded" and session.providers[0] != "CPUExecutionProvider"

    def plan(self, pairs: Sequence[EncodedPair]) -> tuple[list[list[int]], list[list[Window]]]:
        """Say which windows of some pairs share a run.

        Returns:
            Each run's windows, as indexes into the windows of all pairs in turn, and themselves.
        """
        clock = StageClock()
        windows = [window for pair in pairs for window in pair.windows]
        groups = self.share([len(window.input_ids) for window in windows])
        batches = [[windows[index] for index in group] for group in groups]
        clock.lap("plan")
        return groups, batches

    def start(
        self, batches: Sequence[Sequence[Window]], deadline: float | None, workers: Workers | None
    ) -> Iterable[tuple[Logits, Logits]]:
        """Start runs in threads, where that lets work overlap; else they run as their logits are taken.

        Args:
            batches: Windows that share a run.
            deadline: When to give up, on ``time.monotonic``'s clock; None never does.
            workers: The threads; None: there are none.

        Returns:
            ``Queued`` where threads run them. Start and end logits of each batch in turn, as ``Session.run``
            returns or raises them.
        """
        session = self.loaded.session
        # Even one batch leaves this thread free to encode, where a GPU runs it.
        if workers is not None and (session.graph.target == "cuda" or len(batches) > 1):
            return workers.start(session, batches, deadline)
        return map(partial(session.run, deadline=deadline), batches)

    def decode(
        self,
        pairs: Sequence[EncodedPair],
        starts: Sequence[Sequence[Logits]],
        ends: Sequence[Sequence[Logits]],
        options: AnswerOptions,
    ) -> list[Prediction]:
        """Turn logits into predictions.

        Args:
            pairs: As ``encode`` returned them.
            starts: For each pair, for each of its windows, the start logits. *Shape:* ``(length,)``, float32.
            ends: The same for the ends.
            options: As ``options`` returned them.
        """
        return decode(pairs, starts, ends, options, self.loaded.bundle.manifest)


def decode(
    pairs: Sequence[EncodedPair],
    starts: Sequence[Sequence[Logits]],
    ends: Sequence[Sequence[Logits]],
    options: AnswerOptions,
    manifest: Manifest,
) -> list[Prediction]:
    """Turn logits into predictions, as ``Stages.decode``; of a bundle it needs the manifest alone."""
    clock = StageClock()
    if options.decoding == "pipeline":
        predictions = predict_pipeline(pairs, starts, ends, options)
    else:
        calibration = manifest.calibration(options.domain)
        predictions = decode_squad(
            pairs,
            starts,
            ends,
            options,
            threshold=calibration.no_answer.threshold,
            confidence=calibration.confidence,
        )
    clock.lap("decode")
    return predictions
