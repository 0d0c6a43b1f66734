"""Extras: libraries that the engine uses where they are installed, and does without elsewhere."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def find(name: str) -> Any:
    """An installed library, or None; the launcher's `-S` leaves those off the path."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        import site

        site.main()
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
