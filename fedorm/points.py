"""The named moments of a commit over several services, or of a saga, for tests that end the process at one."""

from __future__ import annotations

from collections.abc import Callable


def _nothing(point: str) -> None:
    """Do nothing."""


reached: Callable[[str], None] = _nothing
"""Called with the moment's name, as ``before prepare orders`` or ``after do charge``, by whoever has come there."""
