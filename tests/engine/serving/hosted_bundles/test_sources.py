"""Bundles as a service's command names them, and what several processes share of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fastspan import BundleError, InputError, QuestionAnswerer
from fastspan.serving.hosted_bundles.sources import Sources


def load(source: str, **options: str) -> QuestionAnswerer:
    chosen = {"optimize_for": "throughput", **options}
    return QuestionAnswerer.load(source, variant="fp32", provider="cpu", threads=2, **chosen)  # type: ignore[arg-type]


def test_names_are_those_given_or_the_bundles_own(tiny_bundle: Path) -> None:
    sources = Sources([("a", str(tiny_bundle)), (None, str(tiny_bundle))], load)
    sources.load()
    own = sources.loaded["a"].info().name
    assert list(sources.loaded) == ["a", own]
    held = dict(sources.loaded)
    sources.load()
    assert sources.loaded == held
    again = sources.load_again("a")
    assert again is not held["a"]
    again.close()
    sources.close()
    assert sources.loaded == {}


def test_two_of_one_name_are_refused_and_none_stays_loaded(tiny_bundle: Path) -> None:
    sources = Sources([(None, str(tiny_bundle)), (None, str(tiny_bundle))], load)
    with pytest.raises(InputError, match="Two bundles are called"):
        sources.load()
    assert sources.loaded == {}


def test_only_what_survives_a_fork_is_loaded_to_share(tiny_bundle: Path) -> None:
    shared = Sources([("a", str(tiny_bundle))], load)
    shared.load_to_share()
    assert list(shared.loaded) == ["a"]
    shared.close()
    # Its runs have threads, which a forked process lacks.
    apart = Sources([("a", str(tiny_bundle))], lambda source: load(source, optimize_for="latency"))
    apart.load_to_share()
    assert apart.loaded == {}
    apart.share_anew()
    assert apart.loaded == {}


def test_what_is_shared_is_loaded_anew_or_stays(tiny_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    works = True

    def load_or_not(source: str) -> QuestionAnswerer:
        if not works:
            raise BundleError("it is gone")
        return load(source)

    sources = Sources([("a", str(tiny_bundle))], load_or_not)
    sources.load_to_share()
    old = sources.loaded["a"]
    sources.share_anew()
    new = sources.loaded["a"]
    assert new is not old
    works = False
    with caplog.at_level(logging.ERROR, "fastspan.serving"):
        sources.share_anew()
    assert "it is gone" in caplog.text
    assert sources.loaded["a"] is new
    assert new.answer("who?", "rollo built it.").answers
    sources.close()
