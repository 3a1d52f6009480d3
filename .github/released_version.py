"""Say which places state another version: ``python .github/released_version.py 1.2.3``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = {
    "pyproject.toml": r'^version = "(.+)"',
    "engine/version.py": r'^__version__ = "(.+)"',
    "CITATION.cff": r"^version: (.+)",
    "CHANGELOG.md": r"^## (\d\S*) - \d{4}-\d\d-\d\d$",
}


def stated() -> dict[str, str]:
    """Return what each place states; in the changelog, the newest version."""
    found = {}
    for name, pattern in PLACES.items():
        match = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match[1] if match else "none"
    return found


def main() -> int:
    """Print the places that state another version, and return 1 if there are any."""
    released = sys.argv[1] if len(sys.argv) > 1 else stated()["pyproject.toml"]
    others = {name: version for name, version in stated().items() if version != released}
    for name, version in others.items():
        print(f"{name} states {version}, and {released} is to be released", file=sys.stderr)
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
