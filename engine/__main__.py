"""``python -m fastspan``: the command line."""

from fastspan.cli import main

raise SystemExit(main())
