"""Which settings run a bundle fastest on this machine: one change at a time, each against the best so far.

The search begins at the defaults and leaves them only for what is clearly faster, or, where that is asked
for, for what takes much less processor time at hardly more time. So a machine too busy to measure on keeps
them. Three sessions are alive at most. Which variant ``auto`` takes is never changed: timings differ from
hour to hour, and no answer may. Another variant that is faster here is reported, for its user to choose.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

from fastspan.answerer import QuestionAnswerer
from fastspan.bundle.beside.machine_profile import (
    Cost,
    Profile,
    RunSettings,
    Tuned,
    find_profile,
    refuse_unwritable,
    this_machine,
)
from fastspan.bundle.variants import VariantName
from fastspan.errors import InputError, Overloaded
from fastspan.loading import LoadedBundle, load_bundle, with_settings
from fastspan.machine.cpu import usable_cores
from fastspan.options import LoadOptions, OptimizeFor, shown
from fastspan.runtime.providers import bounds_spinning
from fastspan.runtime.run_settings import default_settings
from fastspan.tuning.candidates import Changes, batch_changes, latency_changes, throughput_changes
from fastspan.tuning.paired_timing import TakeTurn, duel, take_turn
from fastspan.tuning.results import OtherVariant, Trial, Tuning
from fastspan.tuning.sample_texts import Texts, questions_of

__all__ = ["refuse_busy_machine", "tune"]

# About the mean of SQuAD's windows, and how they spread about it.
_TYPICAL_TOKENS = 160
_SPREAD_TOKENS = (48, 96, 128, 144, 160, 176, 208, 320)
_SHORT_TOKENS = (32, 64)
_ROUND_S = 0.4
_MOST_ROUNDS = 6
# Variants that run well enough on a CPU to be compared there.
_ON_CPU: tuple[VariantName, ...] = ("fp32", "int8")

Say = Callable[[str], None]


def tune(
    bundle: str | os.PathLike[str],
    *,
    variant: str = "auto",
    seconds: float = 45.0,
    save_cpu: bool = False,
    say: Say = lambda _: None,
    take: TakeTurn = take_turn,
) -> Tuning:
    """Measure what suits this machine's CPU and write it beside the bundle, where the next ``load`` finds it.

    Args:
        bundle: The bundle's folder.
        variant: ``"auto"``: what ``auto`` takes on this CPU; or a variant's name.
        seconds: About how long to measure; loading comes on top.
        save_cpu: Keep also what takes much less processor time and is hardly slower.
        say: Told what is measured next.
        take: How a turn of the two that are compared is taken.

    Raises:
        BundleError: The bundle cannot be used, or nothing can be written beside it.
        InputError: ``seconds`` is not above 0.
        Overloaded: The machine has other work to do, so what is measured would be doubtful.
    """
    if not seconds > 0:
        raise InputError(f"seconds must be above 0, not {shown(seconds)}.")
    options = LoadOptions(variant=variant, provider="cpu", profile=False)
    loaded = load_bundle(Path(bundle), None, options)
    refuse_unwritable(loaded.bundle.folder)
    refuse_busy_machine()
    search = _Search(loaded, seconds, save_cpu, say, take)
    tuned = search.run()
    chosen = loaded.choice.variant.name
    former = find_profile(loaded.bundle, loaded.onnxruntime).profile
    profile = Profile(
        measured=date.today().isoformat(),
        manifest=loaded.bundle.digest,
        machine=this_machine(loaded.onnxruntime),
        variants={**(former.variants if former is not None else {}), chosen: tuned},
    )
    return Tuning(
        profile=profile,
        file=profile.write(loaded.bundle.folder),
        variant=chosen,
        reason=loaded.choice.reason,
        tuned=tuned,
        trials=tuple(search.trials),
        other_variants=search.other_variants,
        left_out=search.left_out,
    )


def refuse_busy_machine() -> None:
    """Refuse to measure where the machine has other work to do.

    Raises:
        Overloaded: In the last minute, more than half of the cores were wanted; where the system tells.
    """
    if not hasattr(os, "getloadavg"):
        return
    load, cores = os.getloadavg()[0], usable_cores()
    # How many threads wanted to run in the last minute: a half-busy machine measures the other work too.
    if load > cores / 2:
        raise Overloaded(
            f"The machine is busy (load {load:.1f} on {cores} cores), so what is measured would be doubtful. "
            "Nothing was measured or written: tune again a minute after its other work has ended."
        )


class _Search:
    """The search over one variant's settings.

    Args:
        loaded: The variant, as loaded without a profile.
        seconds: How long it may take.
        save_cpu: Whether to keep what saves processor time, too.
        say: Told what is measured next.
        take: How a turn is taken.
    """

    def __init__(
        self, loaded: LoadedBundle, seconds: float, save_cpu: bool, say: Say, take: TakeTurn
    ) -> None:
        self._loaded = loaded
        self._variant = loaded.choice.variant.name
        self._began = time.monotonic()
        self._seconds = seconds
        self._save_cpu = save_cpu
        self._say = say
        self._take = take
        self._costs: dict[tuple[OptimizeFor, RunSettings], Cost] = {}
        self.trials: list[Trial] = []
        self.other_variants: dict[str, OtherVariant] = {}
        self.left_out = 0

    def run(self) -> Tuned:
        """Search, and return what is best."""
        one = self._questions((_TYPICAL_TOKENS,))
        bounded = bounds_spinning(self._loaded.onnxruntime)
        latency = self._search(
            "latency", partial(latency_changes, bounded_spinning=bounded), one, self._at(0.45)
        )
        latency_cost = self._costs.get(("latency", latency))
        # A round of questions is to take about as long on every machine.
        seconds = self.trials[-1].before if self.trials else _ROUND_S
        rounds = int(_ROUND_S * usable_cores() / seconds) // len(_SPREAD_TOKENS)
        many = self._questions(_SPREAD_TOKENS * max(1, min(rounds, _MOST_ROUNDS)))
        throughput = self._search(
            "throughput", partial(throughput_changes, bounded_spinning=bounded), many, self._at(0.8)
        )
        throughput_cost = self._costs.get(("throughput", throughput))
        if self._variant != "int8":
            # Only a batch can gain from this, and only where lengths are equal and short.
            short = self._questions(_SHORT_TOKENS * 8)
            throughput = self._climb(
                "throughput", throughput, batch_changes(throughput), short, self._at(0.9)
            )
            latency = replace(latency, batch_tokens=throughput.batch_tokens)
        self._compare_variants(latency, one)
        return Tuned(
            latency=latency,
            throughput=throughput,
            latency_cost=latency_cost,
            throughput_cost=throughput_cost,
        )

    def _questions(self, lengths: Sequence[int]) -> Texts:
        return questions_of(self._loaded.encoder, lengths, self._loaded.bundle.manifest.max_length)

    def _at(self, share: float) -> float:
        return self._began + share * self._seconds

    def _search(
        self, mode: OptimizeFor, changes: Callable[[RunSettings], Changes], texts: Texts, end: float
    ) -> RunSettings:
        """Climb from the defaults, and return to them unless the summit is faster in a duel of its own."""
        defaults = default_settings(
            replace(self._loaded.options, optimize_for=mode), self._variant, self._loaded.session.graph
        )
        time_left = end - time.monotonic()
        best = self._climb(mode, defaults, changes(defaults), texts, end - time_left / 5)
        if best != defaults and sum(trial.kept for trial in self.trials if trial.mode == mode) > 1:
            return self._climb(mode, defaults, [("all of this", lambda _: best)], texts, end)
        return best

    def _climb(
        self,
        mode: OptimizeFor,
        best: RunSettings,
        changes: Changes,
        texts: Texts,
        end: float,
    ) -> RunSettings:
        """Try one change after the other on the best settings so far."""
        champion = self._answerer(mode, best)
        for number, (what, change) in enumerate(changes):
            settings = change(best)
            if settings == best:
                continue
            now = time.monotonic()
            if now >= end:
                self.left_out += 1
                continue
            self._say(f"{mode}: {what}")
            challenger = self._answerer(mode, settings)
            until = now + (end - now) / (len(changes) - number)
            found = duel(champion, challenger, texts, until, self._take)
            kept = found.won or (self._save_cpu and found.thrifty)
            self.trials.append(
                Trial(
                    mode=mode,
                    what=what,
                    settings=settings,
                    seconds=found.challenger,
                    before=found.champion,
                    cpu_seconds=found.challenger_cpu,
                    cpu_before=found.champion_cpu,
                    turns=found.turns,
                    thrifty=found.thrifty,
                    kept=kept,
                )
            )
            self._costs[mode, best] = Cost(seconds=found.champion, cpu_seconds=found.champion_cpu)
            self._costs[mode, settings] = Cost(seconds=found.challenger, cpu_seconds=found.challenger_cpu)
            if kept:
                champion.close()
                champion, best = challenger, settings
            else:
                challenger.close()
        champion.close()
        return best

    def _answerer(self, mode: OptimizeFor, settings: RunSettings) -> QuestionAnswerer:
        options = replace(self._loaded.options, optimize_for=mode)
        return QuestionAnswerer(with_settings(replace(self._loaded, options=options), settings))

    def _compare_variants(self, latency: RunSettings, one: Texts) -> None:
        manifest = self._loaded.bundle.manifest
        for name in _ON_CPU:
            variant = manifest.variants.get(name)
            if name == self._variant or variant is None or not variant.runs_on("cpu"):
                continue
            if time.monotonic() >= self._at(1):
                self.left_out += 1
                continue
            self._say(f"latency: {name}")
            options = replace(self._loaded.options, variant=name)
            other = load_bundle(self._loaded.bundle.folder, None, options)
            with (
                self._answerer("latency", latency) as ours,
                QuestionAnswerer(with_settings(other, latency)) as theirs,
            ):
                found = duel(ours, theirs, one, self._at(1), self._take)
            self.other_variants[name] = OtherVariant(
                seconds=found.challenger, tuned=found.champion, turns=found.turns, faster=found.won
            )
