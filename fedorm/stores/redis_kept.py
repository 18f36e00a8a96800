"""The records of a Redis service as they were before a test, put back after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedorm.stores.redis_client import pack

if TYPE_CHECKING:
    from fedorm.stores.redis import RedisStore

_Kept = dict[bytes, tuple[bytes, int]]
"""By key what DUMP has answered, and for how many milliseconds it lives, 0: for ever."""


class RedisKept:
    """The keys of all models of the service; others are nobody's here."""

    def __init__(self, store: RedisStore, *, sync: bool) -> None:
        self._store, self._sync = store, sync
        self._before: _Kept = {}

    async def remember(self) -> None:
        """Dump all keys."""
        self._before = await self._all()

    async def restore(self) -> None:
        """Delete what is new, and restore what has changed."""
        now, before = await self._all(), self._before
        commands = [pack((b"DEL", key)) for key in now.keys() - before.keys()]
        for key, (dumped, life) in before.items():
            there = now.get(key)
            if there is None or there[0] != dumped or bool(there[1]) != bool(life):
                commands.append(pack((b"RESTORE", key, b"%d" % life, dumped, b"REPLACE")))
        async with self._store.named():
            for answer in await self._store.client(sync=self._sync).exchange(commands):
                if isinstance(answer, Exception):
                    raise answer

    async def _all(self) -> _Kept:
        client = self._store.client(sync=self._sync)
        async with self._store.named():
            keys: dict[bytes, None] = {}
            for prefix in {self._store.codec(model).prefix for model in self._store.models()}:
                async for some in client.scan(prefix):
                    keys.update(dict.fromkeys(some))
            asking = [pack((command, key)) for key in keys for command in (b"DUMP", b"PTTL")]
            answers = await client.exchange(asking)
        found = zip(keys, answers[::2], answers[1::2], strict=True)
        return {key: (dumped, max(0, life)) for key, dumped, life in found if isinstance(dumped, bytes)}
