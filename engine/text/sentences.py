"""The sentence that a span stands in: a small rule over Unicode's sentence terminators, for any script.

A sentence ends behind a terminator (Unicode's property Sentence_Terminal), with the quotation marks and
brackets that close there, and behind a paragraph: a blank line, or U+2029. In front of ``. ! ?`` and their
like a script that writes blanks puts one behind them; without one they end nothing, so ``3.5`` and
``example.org`` stay whole. Terminators of scripts without blanks, such as ``。``, end a sentence by
themselves. The former end none where the next letter is a small one, and a full stop ends none after a single
letter (``J. Smith``, ``U.S.``) or one of the abbreviations below: a sentence too long as evidence is better
than half a one.

The rule follows annex 29 of Unicode (https://www.unicode.org/reports/tr29/, SB1 to SB11), with three
differences: a lone line break ends nothing, since plain text is wrapped; initials and the abbreviations are
not ends; and ``!`` and ``?`` need a blank and no small letter behind them.

What it does not know: Thai and Lao mark no ends of sentences, so there the sentence is the paragraph; a
heading or a line of a table without a terminator belongs to what follows it; an abbreviation that is not
listed ends a sentence where a capital letter follows. An end is looked for within ``FARTHEST`` characters on
either side; where there is none, the stretch is cut between two words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["FARTHEST", "TERMINATORS", "sentence_around"]

FARTHEST = 4096
"""How many characters before and behind a span an end is looked for: longer stretches are no evidence."""

TERMINATORS = (
    "21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E "
    "1735-1736 17D4-17D5 1803 1809 1944-1945 1AA8-1AAB 1B4E-1B4F 1B5A-1B5B 1B5E-1B5F 1B7D-1B7F "
    "1C3B-1C3C 1C7E-1C7F 2024 203C-203D 2047-2049 2CF9-2CFB 2E2E 2E3C 2E53-2E54 2E60-2E61 3002 A4FF "
    "A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE12 FE15-FE16 "
    "FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 "
    "11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 113D4-113D5 1144B-1144C "
    "115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 "
    "11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16D6E-16D6F 16E98 1BC9F 1DA88"
)
"""Unicode's Sentence_Terminal (version 17), as ranges of code points in hexadecimal; a test compares it."""

# Also written within sentences, without a blank behind them: in names of hosts, numbers and titles.
_NEED_BLANK = ".!?\u2024\ufe52\ufe56\ufe57\u203c\u203d\u2047\u2048\u2049\u2e2e"
_FULL_STOPS = ".\u2024\ufe52"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of languages of Latin script, in lower case.
_ABBREVIATIONS = _words(
    "adm approx av bd bzw ca capt cf cmdr co col corp dept dr ed eds est etc fr gen gov hon inc jr "
    "lt ltd maj mlle mme mr mrs ms mt pres prof rep rev sen sgt sr sra st str tel univ usw vgl viz "
    "vs"
)
# Words too, unless a number follows.
_BEFORE_NUMBERS = _words("art fig figs no nos nr op p pp sec vol vols")

_CLOSING = "\"'\u00bb\u2019\u201d\u203a)\\]}\u300d\u300f\u300b\u3009\u3011\uff09\uff3d\uff5d\uff63"


def _class(ranges: str) -> str:
    """Ranges of hexadecimal code points as the inside of a character class."""
    found = []
    for written in ranges.split():
        first, _, last = written.partition("-")
        found.append(f"{re.escape(chr(int(first, 16)))}-{re.escape(chr(int(last or first, 16)))}")
    return "".join(found)


_END = re.compile(
    rf"(?P<mark>[{_class(TERMINATORS)}]+)(?P<closing>[{_CLOSING}]*)(?P<blank>\s*)"
    r"|(?P<paragraph>[^\S\n]*(?:\u2029|\n[^\S\n]*\n)\s*)"
)
_BLANK = re.compile(r"\s+")
_WORD_BEFORE = re.compile(r"[\w.]*\Z")
_NEAR = 512
_LONGEST_WORD = 24


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Return where the sentence begins and ends that a span stands in.

    Args:
        text: The whole text.
        start: Offset of the span's first character, in code points.
        end: Offset after its last.

    Returns:
        Offsets in ``text``, in code points, without the white space around the sentence. They never cut the
        span; one that reaches over several sentences gets all of them.
    """
    begin, stop = _beginning(text, start), _stop(text, end, max(start, end - 1))
    before, behind = text[begin:start], text[end:stop]
    # Nothing but blanks on one side leaves the span's own border.
    return start - len(before.lstrip()), end + len(behind.rstrip())


def _beginning(text: str, start: int) -> int:
    near = _NEAR
    while True:
        low = max(0, start - near)
        found = [after for _, after in _ends(text, low, start) if after <= start]
        if found or not low:
            return found[-1] if found else 0
        if near >= FARTHEST:
            # The word that is cut here begins before.
            blank = _BLANK.search(text, low, start)
            return blank.end() if blank else low
        near *= 2


def _stop(text: str, end: int, low: int) -> int:
    high = min(len(text), end + FARTHEST)
    # What ends before the span's last character is within it.
    for last, _ in _ends(text, low, high):
        if last >= end:
            return last
    if high == len(text):
        return high
    rest = text[end:high]
    kept = rest.rstrip() if text[high].isspace() else rest.rpartition(" ")[0] or rest
    return end + len(kept)


def _ends(text: str, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Yield where sentences end whose marks lie from ``low`` to ``high``, and where the next ones begin."""
    for found in _END.finditer(text, low, min(len(text), high + _NEAR)):
        if found.start() >= high:
            return
        if found["paragraph"] is not None:
            yield found.start(), found.end()
        elif _is_end(text, found):
            yield found.end("closing"), found.end()


def _is_end(text: str, found: re.Match[str]) -> bool:
    mark, behind = found["mark"], found.end()
    if mark[-1] not in _NEED_BLANK or behind == len(text):
        return True
    if not found["blank"]:
        return False
    following = next((c for c in text[behind : behind + _LONGEST_WORD] if c.isalnum()), "")
    if following.islower():
        return False
    if any(character not in _FULL_STOPS for character in mark):
        return True
    before = _WORD_BEFORE.search(text[max(0, found.start() - _LONGEST_WORD) : found.start()])
    word = before[0].lower() if before else ""
    # The last part of "U.S"; a lone digit is none, a year may end a sentence.
    part = word.rpartition(".")[2]
    initial = len(part) == 1 and part.isalpha()
    return not (initial or word in _ABBREVIATIONS or (word in _BEFORE_NUMBERS and following.isdigit()))
