"""Writes ``engine/text/grapheme_table.py`` from the Unicode data in the package ``regex``.

    python tests/support/programs/write_grapheme_table.py > engine/text/grapheme_table.py

``regex`` is no dependency of FastSpan; transformers brings it. A newer one may know a newer Unicode.
"""

from __future__ import annotations

import textwrap

import regex

COMMAND = "python tests/support/programs/write_grapheme_table.py"

# Of the classes of a character the first one counts. Hangul syllables are told apart by arithmetic.
CLASSES = [
    ("CONTROL", r"\p{GCB=Control}"),
    ("LINKER", r"[\p{GCB=Extend}&&\p{InCB=Linker}]"),
    ("LINKING_LETTER", r"\p{InCB=Linker}"),
    ("EXTEND", r"[\p{GCB=Extend}&&\p{InCB=Extend}]"),
    ("EXTEND_ONLY", r"\p{GCB=Extend}"),
    ("SPACING_MARK", r"\p{GCB=SpacingMark}"),
    ("PREPEND", r"\p{GCB=Prepend}"),
    ("LEADING", r"\p{GCB=L}"),
    ("VOWEL", r"\p{GCB=V}"),
    ("TRAILING", r"\p{GCB=T}"),
    ("PICTOGRAPH", r"\p{Extended_Pictographic}"),
    ("CONSONANT", r"\p{InCB=Consonant}"),
]


def ranges(pattern: str, taken: set[int]) -> list[tuple[int, int]]:
    """The characters of a class that no class before it has, as ranges."""
    compiled = regex.compile(pattern, regex.V1)
    found: list[tuple[int, int]] = []
    for code in range(0x110000):
        if 0xD800 <= code < 0xE000 or code in taken or not compiled.match(chr(code)):
            continue
        taken.add(code)
        if found and found[-1][1] == code - 1:
            found[-1] = found[-1][0], code
        else:
            found.append((code, code))
    return found


def main() -> None:
    """Print the module."""
    print(f'"""Grapheme break classes, made by ``{COMMAND}``."""\n')
    print("from __future__ import annotations\n")
    print('__all__ = ["CLASSES"]\n')
    print("CLASSES = {")
    # A carriage return, a line feed and the joiner have rules of their own.
    taken = {0x0D, 0x0A, 0x200D}
    for name, pattern in CLASSES:
        words = [f"{a:X}-{b:X}" if a < b else f"{a:X}" for a, b in ranges(pattern, taken)]
        print(f'    "{name}": """')
        print(textwrap.indent(textwrap.fill(" ".join(words), 92, break_on_hyphens=False), " " * 8))
        print('    """,')
    print("}")
    print('"""Class → ranges of code points, in hexadecimal."""')


if __name__ == "__main__":
    main()
