"""The examples at the end of each command's help."""

from __future__ import annotations


def examples(*calls: str) -> str:
    """Return an epilog with calls as a user types them, each in a line of its own."""
    # The backspace keeps the lines from being filled as a paragraph.
    return "\n".join(["\b", "Examples:", *(f"  {call}" for call in calls)])
