"""The book's program: its stages, its attacks, its command (python3 -m chapters)."""

import sys

if sys.version_info < (3, 11):
    sys.exit("python3 -m chapters: Python 3.11 or newer is needed, and this is " + sys.version[:6])
