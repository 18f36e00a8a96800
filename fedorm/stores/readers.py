"""What a store of documents needs of those who use it: of a session, and of a test that puts everything back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fedorm.stores.base import DocumentStore


class KeptDocuments(Protocol):
    """What was there before a test, and how to come back to that."""

    async def remember(self) -> None:
        """Read everything."""

    async def restore(self) -> None:
        """Write what differs from what was read."""


class DocumentReader(Protocol):
    """What a bound query needs of its session."""

    async def before_reading(self, store: DocumentStore) -> Any:
        """Flush what is pending; return the transaction to read in, None without one."""

    async def before_writing(self, store: DocumentStore) -> Any:
        """Flush what is pending; return the transaction to write in, None where the server has none."""

    def adopt(self, store: DocumentStore, model: type[Any], raw: Sequence[dict[str, Any]]) -> list[Any]:
        """Return the session's documents for what the database returned."""

    async def load(self, documents: Sequence[Any], options: Sequence[Any]) -> None:
        """Load the relationships that ``options`` name."""

    def forget(self, model: type[Any]) -> None:
        """Read the documents of ``model`` anew when they are used next."""

    async def note_change(self, store: DocumentStore, model: type[Any], transaction: Any) -> None:
        """Drop, with the commit of ``transaction``, what the result cache has read from the model's collection."""
