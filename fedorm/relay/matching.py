"""Which types of events a target takes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fedorm.exc import ConfigurationError


class Types:
    """Patterns of event types: ``*`` stands for any text, also one with dots in it."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        if not self.patterns or not all(self.patterns):
            raise ConfigurationError("a target takes events of some types: name them, or write '*' for all")
        joined = "|".join(".*".join(map(re.escape, pattern.split("*"))) for pattern in self.patterns)
        self._expression = re.compile(f"(?:{joined})", re.DOTALL)
        self._known: dict[str, bool] = {}

    def match(self, kind: str) -> bool:
        """Say whether events of a type are among them."""
        known = self._known.get(kind)
        if known is None:
            if len(self._known) > 10_000:
                self._known.clear()  # Types that somebody makes up as they go.
            known = self._known[kind] = self._expression.fullmatch(kind) is not None
        return known


def as_types(types: str | Iterable[str]) -> tuple[str, ...]:
    """Return one pattern, or several, as a tuple. Raises ``ConfigurationError`` for none."""
    return Types((types,) if isinstance(types, str) else types).patterns
