"""Changes of how windows are run that are worth a trial, in the order to try them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fastspan.bundle.beside.machine_profile import RunSettings

__all__ = ["Changes", "batch_changes", "latency_changes", "throughput_changes"]

Change = Callable[[RunSettings], RunSettings]
Changes = Sequence[tuple[str, Change]]
"""What is changed, for people, and the change itself; one that changes nothing is not worth a trial."""

_BLOCK_BASES = (4, 2)
_BATCH_TOKENS = (1, 256, 512)
# Long enough for what passes between two operators, too short for what passes between two questions.
_SPIN_DURATIONS_US = (1000, 100)


def latency_changes(defaults: RunSettings, *, bounded_spinning: bool) -> Changes:
    """Fewer threads first: what the other changes gain depends on how many there are.

    Args:
        defaults: What to begin with.
        bounded_spinning: Whether ONNX Runtime can be told how long threads spin.
    """
    counts = []
    threads = defaults.threads
    while (threads := threads // 2) >= 1:
        counts.append(threads)
    return [
        *((f"threads {count}", _threads(count)) for count in counts),
        ("spinning off", lambda best: _spinning(best, on=False)),
        *_spin_durations(bounded_spinning),
        *((f"block_base {base}", _block_base(base)) for base in _BLOCK_BASES),
    ]


def throughput_changes(defaults: RunSettings, *, bounded_spinning: bool) -> Changes:
    """Fewer runs at once, of more threads each, or of one where two cores share their units.

    Args:
        defaults: What to begin with.
        bounded_spinning: Whether ONNX Runtime can be told how long threads spin.
    """
    cores = defaults.workers
    shapes = {(1, cores), (cores // 2, 2), (cores // 2, 1)} - {(cores, 1), (0, 1), (0, 2)}
    return [
        *(
            (f"workers {workers}, threads {threads}", _shape(workers, threads))
            for workers, threads in sorted(shapes)
        ),
        ("spinning on", lambda best: _spinning(best, on=True)),
        ("spinning off", lambda best: _spinning(best, on=False)),
        *_spin_durations(bounded_spinning),
        *((f"block_base {base}", _block_base(base)) for base in _BLOCK_BASES),
    ]


def batch_changes(best: RunSettings) -> Changes:
    """How many tokens may share a run."""
    return [
        (f"batch_tokens {tokens}", _batch_tokens(tokens))
        for tokens in _BATCH_TOKENS
        if tokens != best.batch_tokens
    ]


def _threads(count: int) -> Change:
    return lambda best: replace(best, threads=count)


def _shape(workers: int, threads: int) -> Change:
    return lambda best: replace(best, workers=workers, threads=threads, spinning=threads > 1 and workers == 1)


def _spinning(best: RunSettings, *, on: bool) -> RunSettings:
    """A run of one thread has none that could spin."""
    return replace(best, spinning=on) if best.threads > 1 else best


def _spin_durations(known: bool) -> Changes:
    if not known:
        return []
    return [(f"spinning {most} µs", _spin_duration(most)) for most in _SPIN_DURATIONS_US]


def _spin_duration(most: int) -> Change:
    """Only threads that spin can be told to stop."""
    return lambda best: replace(best, spin_duration_us=most) if best.threads > 1 and best.spinning else best


def _block_base(base: int) -> Change:
    return lambda best: replace(best, block_base=base) if best.threads > 1 else best


def _batch_tokens(tokens: int) -> Change:
    return lambda best: replace(best, batch_tokens=tokens)
