"""The documents of a service as they were before a test, put back after it."""

from __future__ import annotations

from typing import Any

from fedorm.stores.base import DocumentStore


class Keeping:
    """Remembers what a service holds before the first write, and puts it back.

    A session's rollback has to undo what it has written and nothing else, which stores of documents have no savepoints
    for. So transactions are left as they are, and what they have changed is put right in the end.
    """

    def __init__(self, store: DocumentStore, *, sync: bool) -> None:
        self.store: Any = store
        self._sync = sync
        self._begin = store.begin
        self._kept = store.kept(sync=sync)
        self._remembered = False

    async def begin(self, *, sync: bool) -> Any:
        """Read everything at the first call; begin a transaction, as the store does before each write."""
        if sync == self._sync and not self._remembered:
            await self._kept.remember()
            self._remembered = True
        return await self._begin(sync=sync)

    async def restore(self) -> None:
        """Write what differs."""
        if self._remembered:
            await self._kept.restore()
