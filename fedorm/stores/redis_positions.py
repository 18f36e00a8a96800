"""Positions of sync rules in Redis: one text a rule, written in the MULTI/EXEC of the rows."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from fedorm.exc import StaleDocumentError
from fedorm.stores.positions import SavedPosition
from fedorm.stores.redis_client import Command
from fedorm.stores.redis_transaction import MakeError, State, Write

if TYPE_CHECKING:
    from fedorm.stores.redis import RedisStore

_PREFIX = "fedorm:sync_positions:"


class _PositionWrite(Write):
    """Saves a position unless it is a later owner's by then."""

    is_text = True

    def __init__(self, rule: str, saved: SavedPosition) -> None:
        self.key = f"{_PREFIX}{rule}".encode()
        self._rule, self._saved = rule, saved

    def check(self, state: State, fail: MakeError) -> None:
        """Compare the owners."""
        found = _read(state.text)
        if found is not None and found.epoch > self._saved.epoch:
            raise StaleDocumentError(f"sync rule {self._rule!r} is carried out by another process by now")

    def commands(self, state: State) -> tuple[list[Command], State]:
        """Set the text."""
        text = json.dumps(asdict(self._saved)).encode()
        return [(b"SET", self.key, text)], State(True, text)


class RedisPositions:
    """The positions that rules have which write to a service."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def claim(self, rule: str, epoch: int) -> SavedPosition | None:
        """Write the owner into it."""
        found = await self.peek(rule)
        if found is None or found.epoch > epoch:
            return found
        mine = replace(found, epoch=epoch)
        return mine if await self.save(None, rule, mine) else await self.peek(rule)

    async def peek(self, rule: str) -> SavedPosition | None:
        """Get the text."""
        async with self._store.named():
            return _read(await self._store.client(sync=False).ask(b"GET", f"{_PREFIX}{rule}".encode()))

    async def save(self, handle: Any, rule: str, saved: SavedPosition) -> bool:
        """Hold it back with the rows; what it is compared with is watched until then."""
        transaction = handle or self._store.transaction(sync=False, holds=False)
        try:
            async with self._store.named():
                await transaction.add([_PositionWrite(rule, saved)])
                if handle is None:
                    await transaction.commit()
        except StaleDocumentError:
            return False
        return True

    async def forget(self, rule: str) -> None:
        """Delete the text."""
        async with self._store.named():
            await self._store.client(sync=False).ask(b"DEL", f"{_PREFIX}{rule}".encode())


def _read(text: bytes | None) -> SavedPosition | None:
    return None if text is None else SavedPosition(**json.loads(text))
