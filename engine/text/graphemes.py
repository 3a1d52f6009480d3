"""Where a reader sees one character end and the next begin: the borders of grapheme clusters.

An accent may be a code point of its own, a syllable three, a flag two and a family five. The rules are those
of Unicode's annex 29 for extended grapheme clusters (https://www.unicode.org/reports/tr29/, GB1 to GB999).
The classes of the characters are in ``fastspan.text.grapheme_table``.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache, lru_cache

from fastspan.text.grapheme_table import CLASSES

__all__ = ["LONGEST", "is_border", "widen_to_graphemes"]

LONGEST = 64
"""Characters of a cluster that are looked through.

Unicode's stream-safe text has at most 30 marks in a row. A cluster of thousands, which takes an attacker, is
cut.
"""

_EXTENDING = ("EXTEND", "EXTEND_ONLY", "LINKER", "JOINER")
_FLAGS = "".join(chr(code) for code in range(0x1F1E6, 0x1F200))
# As many flags in a row are told apart.
_LONGEST_FLAGS = 4096


def widen_to_graphemes(text: str, start: int, end: int) -> tuple[int, int]:
    """Move both ends of ``text[start:end]`` outward to the next borders, unless it is empty."""
    if start >= end:
        return start, end
    least, most = start - LONGEST, end + LONGEST
    while start > least and not is_border(text, start):
        start -= 1
    while end < most and not is_border(text, end):
        end += 1
    return start, end


def is_border(text: str, index: int) -> bool:
    """Whether a character, as a reader sees it, ends before ``text[index]``."""
    if not 0 < index < len(text):
        return True
    left, right = text[index - 1], text[index]
    if left < "\u0300" and right < "\u0300":
        return not (left == "\r" and right == "\n")  # GB3; nothing else joins here.
    before, after = _class(left), _class(right)
    if before == "CONTROL" or after == "CONTROL":
        return True  # GB4, GB5
    if after in _EXTENDING or after == "SPACING_MARK" or before == "PREPEND":
        return False  # GB9, GB9a, GB9b
    if after == "CONSONANT":
        return not _is_conjunct(text, index)
    if before == "JOINER" and after == "PICTOGRAPH":
        return not _follows_pictograph(text, index - 1)
    if before == after == "FLAG":
        run = text[max(0, index - _LONGEST_FLAGS) : index]
        return (len(run) - len(run.rstrip(_FLAGS))) % 2 == 0  # GB12, GB13
    if before in ("LEADING", "SYLLABLE", "OPEN_SYLLABLE", "VOWEL", "TRAILING"):
        return after not in _FOLLOWS[before]
    return True


# GB6 to GB8: what goes on after a part of a Hangul syllable.
_FOLLOWS = {
    "LEADING": ("LEADING", "VOWEL", "OPEN_SYLLABLE", "SYLLABLE"),
    "OPEN_SYLLABLE": ("VOWEL", "TRAILING"),
    "VOWEL": ("VOWEL", "TRAILING"),
    "SYLLABLE": ("TRAILING",),
    "TRAILING": ("TRAILING",),
}


def _is_conjunct(text: str, index: int) -> bool:
    """GB9c as of Unicode 18: a linker, perhaps with marks, and a consonant at ``index``."""
    for position in range(index - 1, max(-1, index - 1 - LONGEST), -1):
        kind = _class(text[position])
        if kind in ("LINKER", "LINKING_LETTER"):
            return True
        if kind not in ("EXTEND", "JOINER"):
            return False
    return False


def _follows_pictograph(text: str, joiner: int) -> bool:
    """GB11: whether a pictograph, perhaps with marks, stands before the joiner."""
    for position in range(joiner - 1, max(-1, joiner - 1 - LONGEST), -1):
        kind = _class(text[position])
        if kind not in ("EXTEND", "EXTEND_ONLY", "LINKER"):
            return kind == "PICTOGRAPH"
    return False


@lru_cache(4096)
def _class(character: str) -> str:
    """Return the class of a character, an empty string for none."""
    code = ord(character)
    if 0xAC00 <= code <= 0xD7A3:
        return "SYLLABLE" if (code - 0xAC00) % 28 else "OPEN_SYLLABLE"
    if character == "\u200d":
        return "JOINER"
    if character in _FLAGS:
        return "FLAG"
    if character in "\r\n":
        return "CONTROL"
    firsts, lasts, names = _table()
    place = bisect_right(firsts, code) - 1
    return names[place] if place >= 0 and code <= lasts[place] else ""


@cache
def _table() -> tuple[list[int], list[int], list[str]]:
    """Return first characters, last characters and classes of all ranges; made when first needed."""
    rows = []
    for name, ranges in CLASSES.items():
        for written in ranges.split():
            first, _, last = written.partition("-")
            rows.append((int(first, 16), int(last or first, 16), name))
    rows.sort()
    firsts, lasts, names = zip(*rows, strict=True)
    return list(firsts), list(lasts), list(names)
