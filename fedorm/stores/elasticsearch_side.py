"""One client of a cluster, and what it knows of the indices there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedorm.stores.elasticsearch_schema import Index

_FRESH = 60.0
"""For how many seconds an index and its mapping are taken to be as they were."""


@dataclass(slots=True)
class Side:
    """The asynchronous side, or the one that threads reach through a bridge."""

    client: Any
    _mapped: dict[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)
    _there: dict[str, float] = field(default_factory=dict)

    async def mapped(self, index: str) -> Mapping[str, Any]:
        """Return the properties of an index as the server has them; of several behind an alias what they agree on."""
        now = time.monotonic()
        asked, mapped = self._mapped.get(index, (-_FRESH, {}))
        if now - asked >= _FRESH:  # Another process may have built the index anew.
            from fedorm.stores.elasticsearch_scan import agreed

            found = await self.client.indices.get_mapping(index=index)
            mapped = agreed([one["mappings"].get("properties", {}) for one in found.values()])
            self._mapped[index] = (now, mapped)
        return mapped

    async def ensure(self, index: Index) -> None:
        """Make an index if it is not there: the server would, and guess the mapping."""
        from fedorm.stores.elasticsearch_schema import create_index

        now = time.monotonic()
        if now - self._there.get(index.name, -_FRESH) >= _FRESH:  # Somebody may have deleted it.
            await create_index(self.client, index)
            self._there[index.name] = now

    def forget(self) -> None:
        """Ask for indices and mappings anew, as they were changed."""
        self._mapped.clear()
        self._there.clear()
