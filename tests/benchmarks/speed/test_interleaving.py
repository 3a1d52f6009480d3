from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import ExitStack
from itertools import pairwise, permutations

import pytest

from support.paths import TESTS

pytest.importorskip("psutil")
from fastspan.benchmarks.questions.workloads import Workload, save_workload
from fastspan.benchmarks.speed.interleaving import Schedule, balanced_order, interleave
from fastspan.benchmarks.speed.peer_process import PeerError, PeerProcess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs process groups and their signals")

ONE = Workload(name="one", title="one question", group="single", pairs=(("Who?", "Ada."),), tokens=(7,))


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts made-up peers with a workload prepared, and ends them."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    workload = tmp_path / "workload.json"
    save_workload(ONE, workload)
    with ExitStack() as stack:

        def started(behaviour, **options):
            job = {
                "checkpoint": "",
                "bundle": "",
                "cache": "",
                "threads": 1,
                "options": {"behaviour": behaviour},
            }
            log = tmp_path / f"{behaviour}.log"
            peer = PeerProcess(
                behaviour,
                python=sys.executable,
                module="fake",
                job=job,
                log=log,
                worker="support.stand_ins.fake_worker",
                **options,
            )
            stack.enter_context(peer)
            peer.ask("prepare", path=str(workload))
            return peer

        yield started


def measured(peers, rounds, **options):
    turns, failures = [], []
    interleave(
        peers,
        rounds,
        failed=lambda peer, failure: failures.append((peer.name, str(failure))),
        record=turns.append,
        **options,
    )
    return turns, failures


def test_peers_take_turns_and_the_order_changes_with_the_rounds(start):
    peers = [start("a"), start("b"), start("c")]
    turns, failures = measured(peers, Schedule(least=3, most=3, seconds=0, per_turn=2, unrecorded=1))
    assert [turn.peer for turn in turns] == [*"abc", *"bca", *"cab"]
    assert [turn.round for turn in turns] == [0] * 3 + [1] * 3 + [2] * 3
    assert all(turn.elapsed > sum(turn.seconds) for turn in turns)
    assert all(len(turn.seconds) == len(turn.cpu_seconds) == 2 and min(turn.seconds) > 0 for turn in turns)
    assert not failures


@pytest.mark.parametrize("fastest, runs", [("sleeps", 1), ("a", 3)])
def test_where_all_runs_are_long_a_turn_is_one(start, fastest, runs):
    schedule = Schedule(least=1, most=1, seconds=0, per_turn=3, unrecorded=1, long=0.2)
    turns, _ = measured([start(fastest)], schedule)
    assert len(turns[0].seconds) == runs


@pytest.mark.parametrize("count", [1, 2, 3, 6, 9])
def test_orders_balance_places_and_followers(count):
    rounds = count if count % 2 == 0 else 2 * count
    orders = [balanced_order(count, number) for number in range(rounds)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    for place in range(count):
        assert Counter(order[place] for order in orders) == dict.fromkeys(range(count), rounds // count)
    followers = Counter(pair for order in orders for pair in pairwise(order))
    assert followers == dict.fromkeys(permutations(range(count), 2), rounds // count)
    # Nor does chance order them: the same round has the same order.
    assert balanced_order(count, rounds) == orders[0]


def test_after_the_least_rounds_time_decides(start):
    peers = [start("a")]
    ticks = iter([0.0, 5.0, 11.0])
    turns, _ = measured(peers, Schedule(least=2, most=9, seconds=10), clock=lambda: next(ticks))
    # The clock is asked at the start and, from the third round on, before each.
    assert len(turns) == 3


def test_spinning_threads_of_a_peer_do_not_run_while_another_answers(start):
    spinning, sleeping = start("spins"), start("sleeps")
    turns, _ = measured([spinning, sleeping], Schedule(least=2, most=2, seconds=0, warmups=1))
    stopped = [turn.stopped_cpu_seconds for turn in turns if turn.peer == "sleeps"]
    assert len(stopped) == 2
    # A thread that spins through a sleep of 0.3 s would use about as much.
    assert max(stopped) < 0.05
    # And it does spin when it is let run: its runs are over at once, yet it uses time.
    before = spinning.cpu_seconds()
    for _ in range(200):
        spinning.ask("run", unrecorded=0, times=1)
    assert spinning.cpu_seconds() > before


def test_a_peer_that_fails_is_reported_and_the_others_go_on(start):
    turns, failures = measured([start("a"), start("raises later")], Schedule(least=3, most=3, seconds=0))
    assert failures == [("raises later", "raises later could not run: RuntimeError: broke on purpose")]
    assert [turn.peer for turn in turns] == ["a", "raises later", "a", "a"]


def test_a_peer_that_ends_leaves_its_last_words(start):
    peer = start("dies")
    with pytest.raises(PeerError, match="ended while asked to run: last words"):
        peer.ask("run", unrecorded=0, times=1)
    assert not peer.usable


def test_a_peer_that_does_not_answer_is_not_waited_for(start):
    peer = start("hangs", timeout=0.1)
    with pytest.raises(PeerError, match="did not answer 'run' within 0 s"):
        peer.ask("run", unrecorded=0, times=1)
    assert not peer.usable


def test_an_interpreter_that_is_missing_is_the_peers_failure(tmp_path):
    with pytest.raises(PeerError, match="x could not be started with /nowhere/python"):
        PeerProcess("x", python="/nowhere/python", module="fake", job={}, log=tmp_path / "log")


def test_what_a_peer_that_is_gone_held_is_not_known(start):
    peer = start("dies")
    with pytest.raises(PeerError):
        peer.ask("run", unrecorded=0, times=1)
    assert peer.memory() == 0
    peer.close()
    assert peer.memory() == 0


def test_a_peer_that_cannot_load_says_why(start):
    with pytest.raises(PeerError, match="cannot load could not load: ValueError: no such model"):
        start("cannot load")


def test_closing_ends_the_process(start):
    import psutil

    peer = start("spins")
    peer.ask("run", unrecorded=0, times=1)
    assert peer.memory() > 1_000_000
    peer.close()
    assert not psutil.pid_exists(peer.pid)


def test_an_unknown_request_is_an_error_and_not_the_end(start, tmp_path):
    peer = start("a")
    with pytest.raises(PeerError, match="'dance' is no request"):
        peer.ask("dance")
    assert peer.ask("answers", path=str(tmp_path / "workload.json"))["answers"] == ["answer"]
    assert peer.ask("stages", times=1) == {"stages": {}}
