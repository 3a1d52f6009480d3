"""The search for settings, with the clock in the test's hand; and the command, on a bundle of two layers."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from fastspan import AnswerOptions, BundleError, InputError, QuestionAnswerer
from fastspan.bundle.beside.machine_profile import Cost, Profile, RunSettings, profile_path
from fastspan.cli.commands.bundles import tune as tune_command
from fastspan.cli.main import main
from fastspan.tuning import paired_timing, search
from fastspan.tuning.results import Tuning
from fastspan.tuning.sample_texts import questions_of
from fastspan.tuning.search import tune
from support.forced_cpu import forced_cores

CostOf = Callable[[RunSettings], float]


def turn(costs: Any, texts: paired_timing.Texts) -> paired_timing.Turn:
    """What takes part in a duel is its costs."""
    return paired_timing.Turn(*costs)


pytestmark = pytest.mark.usefixtures("idle_machine")


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture
def tuned_with(folder: Path) -> Callable[..., Tuning]:
    """Tune for four cores, where a run takes what a function of its settings says."""

    def tuned(cost: CostOf, cpu: CostOf = lambda _: 1.0, variant: str = "fp32", **options: Any) -> Tuning:
        def take(answerer: QuestionAnswerer, texts: paired_timing.Texts) -> paired_timing.Turn:
            settings = answerer.stages.loaded.settings
            return paired_timing.Turn(cost(settings) * len(texts), cpu(settings) * len(texts))

        with forced_cores(4):
            return tune(folder, variant=variant, seconds=600, take=take, **options)

    return tuned


def test_it_finds_what_is_fastest(tuned_with: Callable[..., Tuning]) -> None:
    def cost(settings: RunSettings) -> float:
        seconds = 1.0 if settings.threads == 2 else 1.3
        seconds *= 0.9 if settings.block_base == 4 else 1.0
        seconds *= 0.8 if settings.workers == 2 else 1.0
        return seconds * (0.9 if settings.batch_tokens == 512 else 1.0)

    found = tuned_with(cost)
    assert found.tuned.latency == RunSettings(
        threads=2, workers=1, spinning=True, block_base=4, batch_tokens=512
    )
    assert found.tuned.throughput == RunSettings(
        threads=2, workers=2, spinning=False, block_base=4, batch_tokens=512
    )
    assert {trial.what for trial in found.trials if trial.kept} == {
        *("threads 2", "block_base 4", "workers 2, threads 1", "workers 2, threads 2", "batch_tokens 512"),
        "all of this",
    }
    assert found.left_out == 0
    assert set(found.other_variants) == {"int8"}


def test_what_gains_little_or_only_now_and_then_is_not_kept(tuned_with: Callable[..., Tuning]) -> None:
    slightly = tuned_with(lambda settings: 0.98 if settings.threads == 2 else 1.0)
    assert not any(trial.kept for trial in slightly.trials)
    assert (slightly.tuned.latency.threads, slightly.tuned.throughput.workers) == (4, 4)


def test_a_variant_of_int8_never_shares_runs(tuned_with: Callable[..., Tuning]) -> None:
    found = tuned_with(lambda settings: 1 / settings.batch_tokens, variant="int8")
    assert found.tuned.latency.batch_tokens == found.tuned.throughput.batch_tokens == 1
    assert not any("batch" in trial.what for trial in found.trials)


@pytest.mark.parametrize(("theirs", "won"), [(0.9, True), (0.99, False), (1.1, False)])
def test_a_duel(theirs: float, won: bool) -> None:
    both: Any = (1.0, 1.0), (theirs, 1.0)
    found = paired_timing.duel(*both, [("", "")] * 2, time.monotonic() + 600, turn)
    assert (found.won, found.champion, found.challenger) == (won, 0.5, theirs / 2)
    once = paired_timing.duel(*both, [("", "")], time.monotonic(), turn)
    assert (once.turns, once.won) == (1, False), "too little was seen to tell"


def test_a_gain_that_comes_and_goes_is_chance() -> None:
    both: Any = itertools.cycle([1.0]), itertools.cycle([0.5, 0.5, 1.2])
    found = paired_timing.duel(
        *both, [("", "")], time.monotonic() + 600, lambda costs, _: paired_timing.Turn(next(costs), 1.0)
    )
    assert (found.champion, found.challenger, found.won) == (1.0, 0.5, False)


@pytest.mark.parametrize(
    ("theirs", "thrifty"),
    [((1.01, 0.7), True), ((1.05, 0.7), False), ((1.01, 0.9), False), ((0.9, 0.7), True)],
)
def test_what_saves_processor_time_may_hardly_be_slower(theirs: tuple[float, float], thrifty: bool) -> None:
    both: Any = (1.0, 1.0), theirs
    found = paired_timing.duel(*both, [("", "")] * 2, time.monotonic() + 600, turn)
    assert (found.thrifty, found.champion_cpu, found.challenger_cpu) == (thrifty, 0.5, theirs[1] / 2)


def sleepless(settings: RunSettings) -> float:
    """Processor seconds where threads spin long after a run unless they are told not to."""
    return 0.5 if settings.spin_duration_us is not None else 1.0


def test_what_saves_processor_time_is_shown_and_kept_only_where_that_is_asked_for(
    tuned_with: Callable[..., Tuning], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.26.0")
    shown = tuned_with(lambda _: 1.0, sleepless)
    assert not any(trial.kept for trial in shown.trials)
    assert {trial.what for trial in shown.trials if trial.thrifty} == {"spinning 1000 µs", "spinning 100 µs"}
    assert shown.tuned.latency.spin_duration_us is None
    assert shown.tuned.latency_cost == Cost(seconds=1.0, cpu_seconds=1.0)
    tune_command._show(shown)
    assert "spinning 1000 µs for latency: 50% less CPU time, +0.0% time" in capsys.readouterr().out

    kept = tuned_with(lambda _: 1.0, sleepless, save_cpu=True)
    assert kept.tuned.latency.spin_duration_us == 1000
    assert kept.tuned.latency_cost == Cost(seconds=1.0, cpu_seconds=0.5)
    tune_command._show(kept)
    out = capsys.readouterr().out
    assert "spinning at most 1000 µs" in out
    assert "--save-cpu" not in out


def test_an_older_runtime_is_not_told_how_long_to_spin(
    tuned_with: Callable[..., Tuning], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.25.1")
    found = tuned_with(lambda _: 1.0)
    assert not any("µs" in trial.what for trial in found.trials)


def test_a_turn_costs_what_threads_use_until_they_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that spin use a core in each of four pauses, then sleep; the run itself takes one second."""
    clock = {"wall": 0.0, "cpu": 0.0, "spins": 0.0}

    def ask() -> None:
        clock.update(wall=clock["wall"] + 1, cpu=clock["cpu"] + 2, spins=4)

    def sleep(seconds: float) -> None:
        if clock["spins"]:
            clock.update(cpu=clock["cpu"] + seconds, spins=clock["spins"] - 1)

    monkeypatch.setattr(paired_timing.time, "perf_counter", lambda: clock["wall"])
    monkeypatch.setattr(paired_timing.time, "process_time", lambda: clock["cpu"])
    monkeypatch.setattr(paired_timing.time, "sleep", sleep)
    taken = paired_timing._turn(ask)
    assert taken == (1.0, pytest.approx(2 + 4 * paired_timing._PAUSE_S))
    assert clock["spins"] == 0


def test_questions_have_the_lengths_that_were_asked_for(tiny_bundle: Path) -> None:
    with QuestionAnswerer.load(tiny_bundle, variant="fp32") as qa:
        texts = questions_of(qa.stages.loaded.encoder, (64, 160, 64, 1000), 384)
        assert texts[0] == texts[2]
        encoded = qa.stages.loaded.encoder.encode(*zip(*texts, strict=True), AnswerOptions())
        lengths = [len(pair.windows[0].input_ids) for pair in encoded]
        assert all(len(pair.windows) == 1 for pair in encoded)
        for length, wanted in zip(lengths, (64, 160, 64, 384), strict=True):
            assert wanted - 12 < length <= wanted


# --- On the clock of this machine. ---


def test_the_command_end_to_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(folder), "--seconds", "1", "--variant", "fp32"]) == 0
    shown = capsys.readouterr()
    for label in ("ms a question", "CPU ms", "variant", "latency", "throughput", "written"):
        assert label in shown.out
    path = profile_path(folder)
    assert str(path) in shown.out
    first = Profile.from_json(path.read_bytes())
    assert set(first.variants) == {"fp32"}

    assert main(["tune", str(folder), "--seconds", "0.01", "--variant", "int8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["variant"], found["file"]) == ("int8", str(path))
    second = Profile.from_json(path.read_bytes())
    assert second.variants["fp32"] == first.variants["fp32"], "what was measured before is kept"
    costs = [each for each in (first.variants["fp32"].latency_cost,) if each is not None]
    assert all(each.seconds > 0 and each.cpu_seconds > 0 for each in costs)
    assert found["tuned"]["latency"]["threads"] == second.variants["int8"].latency.threads

    for options in ({"variant": "int8"}, {"variant": "fp32", "optimize_for": "throughput"}):
        with QuestionAnswerer.load(folder, provider="cpu", **options) as qa:  # type: ignore[arg-type]
            assert qa.info().profile.startswith("in use: bundle.tuned.json")
            qa.answer("who built it?", "The stone bridge was built by Rollo.")

    assert main(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["profile"].startswith("bundle.tuned.json holds, measured on")
    assert main(["doctor", "--bundle", str(folder), "--json"]) == 0
    assert "bundle.tuned.json holds" in json.loads(capsys.readouterr().out)["profile"]
    path.write_text("{}")
    assert main(["info", str(folder)]) == 0
    assert "bundle.tuned.json is ignored" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--seconds", "0"], ["--seconds", "nan"], ["--seconds", "1e9"], ["--variant", "int4"]]
)
def test_wrong_usage_of_the_command(folder: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tune", str(folder), *words])
    assert ended.value.code == 2


def test_nothing_is_measured_where_nothing_can_be_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: Any) -> None:
        pytest.fail("measured in vain")

    monkeypatch.setattr(search, "duel", measure)
    profile_path(folder).mkdir()
    assert main(["tune", str(folder)]) == 1
    assert "bundle.tuned.json is a folder" in capsys.readouterr().err
    with pytest.raises(BundleError, match="no variant 'fp16'"):
        tune(folder, variant="fp16")
    with pytest.raises(InputError, match="seconds must be above 0"):
        tune(folder, seconds=0)


def test_a_busy_machine_measures_and_stores_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: Any) -> None:
        pytest.fail("measured in vain")

    monkeypatch.setattr(search, "duel", measure)
    monkeypatch.setattr(search.os, "getloadavg", lambda: (2.1, 0.0, 0.0), raising=False)
    with forced_cores(4):
        assert main(["tune", str(folder)]) == 1
    assert "busy (load 2.1 on 4 cores)" in capsys.readouterr().err
    assert not profile_path(folder).exists()
    copy = folder.with_name("copy")
    assert main(["tune", str(folder), "--copy-to", str(copy)]) == 1
    assert not copy.exists()


def test_a_copy_is_tuned_and_the_bundle_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = folder.with_name("copy")
    words = ["tune", str(folder), "--seconds", "0.01", "--variant", "fp32", "--json", "--copy-to", str(copy)]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(profile_path(copy))
    assert profile_path(copy).is_file()
    assert not profile_path(folder).exists()
    assert main(words) == 1
    assert "is there already" in capsys.readouterr().err
