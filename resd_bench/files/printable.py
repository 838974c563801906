"""Text that cannot control a terminal."""

from __future__ import annotations

_KEPT = "\n\t"


def printable(text: str) -> str:
    """`text` with whatever would control a terminal or cannot be encoded shown escaped."""
    if text.isprintable():
        return text
    return "".join(c if c in _KEPT or c.isprintable() else ascii(c)[1:-1] for c in text)
