"""`python3 -m minicontainer`: the same command as bin/minicontainer, for an installed package."""

from __future__ import annotations

import sys

from minicontainer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
