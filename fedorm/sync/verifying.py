"""Comparing source and target: by digests of ranges of keys, and row by row only where these differ."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fedorm.stores.rows import Key, Values
from fedorm.sync.applying import Work
from fedorm.sync.carrying import Carrying
from fedorm.sync.keys import is_key, key_to_json
from fedorm.sync.passes import ahead, works
from fedorm.sync.sameness import comparable

_AGAIN = (0.2, 1.0, 3.0)
"""Seconds after which rows that differ are looked at again: their change may be on its way."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not as it should be; ``key`` is the target's, in JSON's types."""

    key: list[Any]
    kind: Literal["missing", "different", "superfluous"]
    fields: tuple[str, ...] = ()


@dataclass(slots=True)
class Verified:
    """What a comparison came to."""

    rule: str
    rows: int = 0
    """Of the source, that were compared."""
    ranges: int = 0
    """Of keys, that were compared by their digests."""
    missing: int = 0
    different: int = 0
    superfluous: int = 0
    failed: int = 0
    """Rows that the rule's own code fails for, so that what they should be is not known."""
    repaired: int = 0
    differences: list[Difference] = field(default_factory=list)
    """A sample of them."""

    @property
    def equal(self) -> bool:
        """Whether source and target agree, possibly after they were repaired."""
        return self.missing + self.different + self.superfluous == self.repaired and not self.failed


async def verify(carrying: Carrying, *, repair: bool, sample: int, page: int) -> Verified:
    """Compare, and mend if wanted."""
    return await _Verifying(carrying, repair, sample, page).run()


class _Verifying:
    def __init__(self, carrying: Carrying, repair: bool, sample: int, page: int) -> None:
        self._carrying, self._repair, self._sample, self._page = carrying, repair, sample, page
        self._found = Verified(carrying.rule.name)

    async def run(self) -> Verified:
        carrying = self._carrying
        async for _, rows, work in works(carrying, None, None, self._page):
            await self._compare(rows, work)
        if carrying.rule.declared.on_delete != "ignore" and not carrying.shared:
            async for keys in ahead(carrying.target.key_pages(size=self._page)):
                await self._look_for_superfluous(keys)
        return self._found

    async def _compare(self, rows: int, work: Work) -> None:
        carrying, found = self._carrying, self._found
        found.rows += rows
        found.ranges += 1
        found.failed += sum(one.error is not None for one in work.outcomes.values())
        there = await carrying.target.read(work.keys())
        if not work.gone and _digest({k: one.values for k, one in work.outcomes.items()}) == _digest(
            {key: _like(there.get(key), one.values) for key, one in work.outcomes.items()}
        ):
            return
        await self._settle(await self._left(work))

    async def _left(self, work: Work) -> Work:
        work.outcomes = {key: one for key, one in work.outcomes.items() if one.error is None}
        return await self._carrying.differing(work)

    async def _settle(self, work: Work) -> None:
        """Look again at rows that differ, as both sides are then, and count those that go on differing."""
        carrying = self._carrying
        key_of = carrying.rule.mapping.key_of
        for seconds in (0.0,) if self._repair else _AGAIN:
            if not work.outcomes and not work.gone:
                break
            await asyncio.sleep(seconds)
            again = [key_of(one.source) for one in work.outcomes.values()] + list(work.gone.values())
            work = await self._left(await carrying.work_of_keys(again))
        await self._count(work)

    async def _count(self, work: Work) -> None:
        carrying, found = self._carrying, self._found
        there = await carrying.target.read(work.keys())
        ignored = carrying.rule.declared.on_delete == "ignore"
        for key, outcome in work.outcomes.items():
            row = there.get(key)
            if row is None:
                found.missing += 1
                self._note(Difference(key_to_json(key), "missing"))
            else:
                found.different += 1
                fields = tuple(carrying.differing_fields(outcome.values or {}, row))
                self._note(Difference(key_to_json(key), "different", fields))
        if ignored:
            work.gone.clear()
        for key in work.gone:
            found.superfluous += 1
            self._note(Difference(key_to_json(key), "superfluous"))
        if self._repair and (work.outcomes or work.gone):
            applied = await carrying.write_apart(work, await carrying.positions.peek())
            found.repaired += len(work.outcomes) + len(work.gone) - applied.failed

    async def _look_for_superfluous(self, keys: Sequence[Key]) -> None:
        carrying = self._carrying
        mapping = carrying.rule.mapping
        back = {mapping.source_key(key): key for key in keys}
        present = await carrying.source.present([*filter(is_key, back)])
        absent = [key for key in back if key not in present]
        if absent:
            await self._settle(await self._left(await carrying.work_of_keys(absent)))

    def _note(self, difference: Difference) -> None:
        if len(self._found.differences) < self._sample:
            self._found.differences.append(difference)


def _like(row: Values | None, wanted: Values | None) -> Values | None:
    return None if row is None else {name: row.get(name) for name in wanted or {}}


def _digest(rows: dict[Key, Values | None]) -> bytes:
    """Return a digest of rows by what they mean; equal digests mean equal rows, others may still."""
    digest = hashlib.blake2b(digest_size=16)
    for key, row in rows.items():
        digest.update(repr((key, None if row is None else [(n, comparable(v)) for n, v in row.items()])).encode())
    return digest.digest()
