"""Writing blocks whose rows do not all have the same fields, as the rule's own code says some and leaves others."""

from __future__ import annotations

from typing import Any

from fedorm.stores.rows import Block, RowAccess, Values


class Writer:
    """Writes to one target; a row keeps there what its values do not name, and a new one gets its defaults for it."""

    def __init__(self, target: RowAccess) -> None:
        self._target = target
        self._fields = frozenset(target.shape.fields)
        self._narrowed: dict[frozenset[str], RowAccess] = {}

    async def write(self, handle: Any, block: Block, *, version: int) -> None:
        """Write a block, in as many parts as it has kinds of rows."""
        width = len(self._fields)
        if all(len(row) == width for row in block.upserts):
            await self._target.write(handle, block, version=version)
            return
        alike: dict[frozenset[str], list[Values]] = {}
        for row in block.upserts:
            alike.setdefault(frozenset(row), []).append(row)
        for fields, rows in alike.items():
            await self._access(fields).write(handle, Block(upserts=rows), version=version)
        rest = Block(changes=block.changes, deletes=block.deletes, only=block.only)
        if len(rest):
            await self._target.write(handle, rest, version=version)

    def _access(self, fields: frozenset[str]) -> RowAccess:
        if fields == self._fields:
            return self._target
        if fields not in self._narrowed:
            self._narrowed[fields] = self._target.narrowed(fields)
        return self._narrowed[fields]
