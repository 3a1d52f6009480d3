"""``python -m fastspan``: the command line."""

from fastspan.cli.main import main

raise SystemExit(main())
