"""The bundles of a service as they are named: loaded together, one anew, or once for several processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from fastspan.answerer import QuestionAnswerer
from fastspan.errors import FastSpanError, InputError
from fastspan.runtime.session import OnnxSession

__all__ = ["Sources"]

_log = logging.getLogger("fastspan.serving")


S = TypeVar("S")


class Sources(Generic[S]):
    """Where the bundles of a service come from.

    Args:
        named: Names that were given, or None where the bundle's own counts, and what to load.
        load: Loads it.

    Attributes:
        loaded: What was loaded, by name; empty until ``load`` is called, and where processes load themselves.
    """

    def __init__(self, named: Sequence[tuple[str | None, S]], load: Callable[[S], QuestionAnswerer]) -> None:
        self._named = named
        self._load = load
        self._places: dict[str, S] = {}
        self.loaded: dict[str, QuestionAnswerer] = {}

    def load(self) -> None:
        """Load all; does nothing where they are.

        Raises:
            InputError: Two have one name.
            FastSpanError: One does not load; none is then.
        """
        try:
            for given, source in self._named if not self.loaded else ():
                answerer = self._load(source)
                name = given or answerer.info().name
                if name in self.loaded:
                    answerer.close()
                    raise InputError(
                        f"Two bundles are called {name!r}: give them names, as in a=FOLDER b=FOLDER."
                    )
                self.loaded[name], self._places[name] = answerer, source
        except BaseException:
            self.close()
            raise

    def load_again(self, name: str) -> QuestionAnswerer:
        """Load one anew by its name."""
        return self._load(self._places[name])

    def load_to_share(self) -> None:
        """Load all so that processes which are forked run them in the same memory; none where one cannot.

        Raises:
            FastSpanError: As of ``load``.
        """
        self.load()
        sessions = [answerer.stages.loaded.session for answerer in self.loaded.values()]
        if not all(
            isinstance(session, OnnxSession) and session.loaded.share_with_children() for session in sessions
        ):
            self.close()

    def share_anew(self) -> None:
        """Load anew what is shared, for processes forked from now on; where that fails, all stays."""
        if not self.loaded:
            return
        fresh = Sources(self._named, self._load)
        try:
            fresh.load_to_share()
        except FastSpanError as error:
            _log.error("What further processes begin with was not loaded anew: %s", error)
            return
        self.close()
        self.loaded = fresh.loaded

    def close(self) -> None:
        """Close what was loaded."""
        for answerer in self.loaded.values():
            answerer.close()
        self.loaded = {}
