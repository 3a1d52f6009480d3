"""Texts with answers marked in them, as HTML: in a notebook, or as one page without scripts."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["MarkedText", "Place"]

# Colours that hold a contrast of 7 to 1 and more on light and dark grounds alike.
_STYLE = (
    "mark{background:#ffe08a;color:#1a1a1a;border-radius:.2em;padding:0 .1em}"
    "mark.rest{background:#dbe7ff;color:#1a1a1a}"
    "mark sup{font-size:.7em;margin-left:.15em}"
)
_PAGE_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.6 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;"
    "overflow-wrap:break-word}"
    "h1{font-size:1.3rem}.passage{white-space:pre-wrap;margin:1.2rem 0}"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer stands.

    Attributes:
        text: Which of the texts, from 0.
        start: Offset of its first character, in code points.
        end: Offset after its last.
    """

    text: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class MarkedText:
    """Texts, and where the answers stand in them. A notebook shows it by itself.

    Attributes:
        texts: The texts.
        places: The answers, best first.
        answered: Whether the first of them is the answer, or the closest span of a question without one.
    """

    texts: tuple[str, ...]
    places: tuple[Place, ...]
    answered: bool

    def _repr_html_(self) -> str:
        """Return the texts as a fragment of HTML, which Jupyter shows."""
        return f"<style>{_STYLE}.passage{{white-space:pre-wrap}}</style>{self._passages()}"

    def to_page(self, title: str, note: str = "") -> str:
        """Return one page of HTML, whole in itself and without scripts.

        Args:
            title: Its heading, such as the question.
            note: A line below it.
        """
        heading = _escaped(title)
        below = f"<p>{_escaped(note)}</p>\n" if note else ""
        return (
            '<!doctype html>\n<html>\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
            # So that a browser runs and fetches nothing, whatever the text holds.
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "style-src 'unsafe-inline'\">\n"
            f"<title>{heading}</title>\n<style>{_STYLE}{_PAGE_STYLE}</style>\n</head>\n<body>\n"
            f'<h1 dir="auto">{heading}</h1>\n{below}{self._passages()}\n</body>\n</html>\n'
        )

    def _passages(self) -> str:
        return "\n".join(
            f'<div class="passage" dir="auto">{"".join(self._marked(number))}</div>'
            for number in range(len(self.texts))
        )

    def _marked(self, number: int) -> Iterator[str]:
        """Yield one text in pieces, escaped; what several answers share is marked as the best one's."""
        text = self.texts[number]
        ranked = [(rank, place) for rank, place in enumerate(self.places, 1) if place.text == number]
        borders = sorted({0, len(text), *(at for _, place in ranked for at in (place.start, place.end))})
        pieces = [
            (
                text[begin:end],
                next((rank for rank, place in ranked if place.start <= begin and end <= place.end), None),
            )
            for begin, end in pairwise(borders)
        ]
        # An answer in several pieces is numbered once, behind the last.
        last = {rank: index for index, (_, rank) in enumerate(pieces)}
        for index, (piece, rank) in enumerate(pieces):
            if rank is None:
                yield _escaped(piece)
                continue
            kind = "" if rank == 1 and self.answered else ' class="rest"'
            label = f"<sup>{rank}</sup>" if last[rank] == index and len(self.places) > 1 else ""
            yield f"<mark{kind}>{_escaped(piece)}{label}</mark>"


def _escaped(text: str) -> str:
    # HTML has no NUL and no half of a surrogate pair.
    safe = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    return html.escape(safe)
