"""What a document store keeps of transactions over several services: one document for each, by its id."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

COLLECTION = "fedorm_decisions"
LOG_TOKEN = "log"  # noqa: S105 - it is no secret
"""The id of the entry that says which log this is; its outcome is the token."""

Entry = dict[str, Any]
"""``{"_id": ..., "outcome": ..., "handed_to": ..., "services": [...], "at": ...}``"""


class DocumentDecisions(ABC):
    """The decision log of a document store."""

    @abstractmethod
    async def token(self, proposed: str | None) -> str | None:
        """Return the log's token; where there is no log, make one with the ``proposed`` token, None: leave it so."""

    @abstractmethod
    async def insert(self, entry: Entry, transaction: Any) -> bool:
        """Write an entry, at once if ``transaction`` is None; False where its id is taken."""

    @abstractmethod
    async def settle(self, entry: Entry, seconds: float) -> Entry | None:
        """Return the entry with the id that is there, or write this one; None if another writer takes longer."""

    @abstractmethod
    async def find(self, wanted: Entry, limit: int) -> list[Entry]:
        """Return the oldest entries that match."""

    @abstractmethod
    async def forget(self, ids: Sequence[str], transaction: Any) -> None:
        """Drop entries, at once if ``transaction`` is None."""
