"""How far an export has come: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Display
from rich.text import Text

__all__ = ["LineProgress", "Progress", "TerminalProgress", "progress_on"]

# Steps shorter than this leave no line behind on a terminal.
WORTH_A_LINE_S = 1.0


class Progress(Protocol):
    """Told what happens; draws a bar, prints lines, or keeps silent."""

    def stage(self, text: str) -> None:
        """A step begins."""

    def bar(self, text: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """A step of ``total`` parts begins; the callable it yields is called after each part."""


class _Closing(Progress, Protocol):
    """A progress that is told when all is over."""

    def close(self) -> None:
        """The last step is over."""


class LineProgress:
    """Writes a line when a step begins, and one when a step of many parts is over.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def stage(self, text: str) -> None:
        """Write what begins."""
        self._line(text)

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        """Write what begins, and how long it took once it is over."""
        self._line(f"{text} ({total})")
        began = time.monotonic()
        yield lambda: None
        seconds = time.monotonic() - began
        if seconds >= WORTH_A_LINE_S:
            self._line(f"{text}: done in {seconds:.1f} s")

    def close(self) -> None:
        """Nothing is left open."""

    def _line(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


class _Parts(MofNCompleteColumn):
    """How many parts are done; nothing for a step whose parts are not counted."""

    def render(self, task: Task) -> Text:
        """Return the text for a step, such as ``3/36``."""
        return Text() if task.total is None else super().render(task)


class TerminalProgress:
    """Shows the step at hand with its time and, where its parts are counted, a bar.

    A step that took a second or more leaves a line with its time behind.

    Args:
        stream: A terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._display = Display(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Parts(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._current: TaskID | None = None
        self._text = ""
        self._began = 0.0
        self._display.start()

    def stage(self, text: str) -> None:
        """Show a step of unknown length."""
        self._begin(text, None)

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        """Show a step of ``total`` parts."""
        task = self._begin(text, total)
        yield lambda: self._display.advance(task)
        self._end()

    def close(self) -> None:
        """End the last step and give the terminal back."""
        self._end()
        self._display.stop()

    def _begin(self, text: str, total: int | None) -> TaskID:
        self._end()
        self._text, self._began = text, time.monotonic()
        self._current = self._display.add_task(text, total=total)
        return self._current

    def _end(self) -> None:
        if self._current is None:
            return
        self._display.remove_task(self._current)
        self._current = None
        seconds = time.monotonic() - self._began
        if seconds >= WORTH_A_LINE_S:
            self._console.print(f"  {self._text}  [dim]{seconds:.1f} s[/dim]")


def progress_on(stream: TextIO) -> AbstractContextManager[Progress]:
    """Show progress on a stream for as long as the context lasts.

    Args:
        stream: Where to; standard error, so that results can be piped.
    """
    return _shown(TerminalProgress(stream) if stream.isatty() else LineProgress(stream))


@contextmanager
def _shown(progress: _Closing) -> Iterator[Progress]:
    try:
        yield progress
    finally:
        progress.close()
