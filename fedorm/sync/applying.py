"""Writing what a rule makes of rows to its target, a whole block at a time; rows that fail are put aside alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from fedorm.exc import RowError
from fedorm.stores.rows import Block, Key, RowAccess, Values
from fedorm.sync.accounts import Progress
from fedorm.sync.dead_letters import DeadLetters
from fedorm.sync.keys import is_key
from fedorm.sync.mapping import Mapping, Outcome
from fedorm.sync.positions import Position, Positions
from fedorm.sync.sameness import Sameness
from fedorm.sync.writing import Writer


@dataclass(slots=True)
class Work:
    """What is to be done to the target: the last outcome of each of the target's keys."""

    outcomes: dict[Key, Outcome] = field(default_factory=dict)
    gone: dict[Key, Key] = field(default_factory=dict)
    """Target's keys of rows that are gone, and which rows of the source those were."""

    def keys(self) -> list[Key]:
        """Return the keys that rows of the target can have."""
        return [key for key in (*self.outcomes, *self.gone) if is_key(key)]

    def want(self, outcome: Outcome, source_key: Key) -> None:
        """Take in what has become of a row."""
        self.outcomes.pop(outcome.key, None)
        self.gone.pop(outcome.key, None)
        if outcome.error is None and outcome.values is None:
            self.gone[outcome.key] = source_key
        else:
            self.outcomes[outcome.key] = outcome

    def remove(self, key: Key, source_key: Key) -> None:
        """Take in that a row is gone."""
        self.outcomes.pop(key, None)
        self.gone[key] = source_key


Part = Values | Key | tuple[Key, Values]
"""What is written of one row: its values, the key of one to delete, or what is changed of one."""
_TRIED_AGAIN = 50
"""How many rows are tried once more, after the others: of more it is not the others' fault."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What has become of a block, in rows."""

    written: int
    deleted: int
    failed: int


class Applier:
    """Writes one rule's work, for one owner."""

    def __init__(
        self,
        mapping: Mapping,
        target: RowAccess,
        positions: Positions,
        letters: DeadLetters,
        progress: Progress,
        epoch: int,
        *,
        alone: bool = False,
        until: Callable[[], float] | None = None,
        fences: Sequence[tuple[Positions, int]] = (),
    ) -> None:
        self._mapping, self._target, self._positions = mapping, target, positions
        self._writer = Writer(target)
        self.letters, self._progress, self._epoch = letters, progress, epoch
        self.handle: Any = None
        """The target's transaction while only a part of a source's transaction is written."""
        self._is_open = False
        self._fences = fences
        """What each transaction begins with, and the token that it writes there unless there is a greater one."""
        self._until = until
        """Given where the greatest version of several rules counts: they are moments then, none behind this one."""
        self._alone = alone
        """Whether each block is committed by itself, without a position."""
        self._careful = False
        """Whether each part of a transaction is, as one of them has a row that fails."""
        self._version = self._moment = 0

    # -- one block and its position

    @property
    def version(self) -> int:
        """The greatest that was given to a block, whether it was committed or not."""
        return self._version

    async def apply(self, work: Work, position: Position | None, *, version: int | None = None) -> Applied:
        """Write, save the position in the same transaction, and commit. None: more of the same transaction follows.

        ``version`` is that of a block without a position. Returns what was done, however often that is said elsewhere
        meanwhile: the progress begins at 0 again each time it is.
        """
        if version is not None or position is not None:
            self._version = max(self._version, version or 0, position.version if position is not None else 0)
        failed = [one for one in work.outcomes.values() if one.error is not None]
        block = self._block(work, await self._others(work))
        await self._put_aside(failed)
        parts_before = self._is_open
        try:
            await self._write(block, position)
        except RowError:
            await self.abandon()
            if parts_before:
                self._careful = True  # Begun again from the position saved last, part by part.
                raise
            failed += await self._without_bad(work, block, position)
        if position is not None:
            self._careful = False
        refused = {one.key for one in failed}
        settled = [self._mapping.key_of(one.source) for key, one in work.outcomes.items() if key not in refused]
        settled += [source for key, source in work.gone.items() if key not in refused]
        done = Applied(len(block.upserts), len(block.deletes) + len(block.changes), len(failed))
        self._progress.synced += done.written
        self._progress.deleted += done.deleted
        await self.letters.settled(settled)
        return done

    async def _write(self, block: Block, position: Position | None) -> None:
        if not self._is_open:
            self.handle, self._is_open = await self._target.begin(), True
        try:
            for fence, token in self._fences:
                await fence.save(self.handle, Position("stream", version=self._version), token)
            if len(block):
                await self._writer.write(self.handle, block, version=self._row_version(position))
            if position is None and not (self._alone or self._careful):
                return
            if position is not None:
                await self._positions.save(self.handle, position, self._epoch)
            handle, self.handle, self._is_open = self.handle, None, False
            await self._target.commit(handle)
        except RowError:
            raise
        except BaseException:
            await self.abandon()
            raise

    def _row_version(self, position: Position | None) -> int:
        version = position.version if position else self._version
        if self._until is not None:
            # Of an owner that is one no more they are behind those of the next one.
            moment = int(min(time.time(), self._until()) * 1e6)
            version = self._moment = max(version, self._moment + 1, moment)
        return version

    async def abandon(self) -> None:
        """Undo what is not committed."""
        if self._is_open:
            handle, self.handle, self._is_open = self.handle, None, False
            await self._target.rollback(handle)

    # -- what cannot be written

    async def _others(self, work: Work) -> set[Key]:
        """Return which rows that are gone are another rule's by now, where the store does not look at that itself."""
        owns, keys = self._mapping.owns, [*filter(is_key, work.gone)]
        if not owns or not keys or self._target.heeds_only:
            return set()
        same = Sameness(self._mapping.target, rounds=self._target.rounds_moments)
        return {key for key, row in (await self._target.read(keys)).items() if same.differing(owns, row)}

    def _block(self, work: Work, others: Collection[Key]) -> Block:
        """Return what is written: of rows that are gone, what the rule says becomes of their copies."""
        rule = self._mapping.rule
        upserts = [one.values for one in work.outcomes.values() if one.values is not None]
        block = Block(upserts=upserts, only=self._mapping.owns)
        gone = [key for key in work.gone if is_key(key) and key not in others]
        if rule.on_delete == "delete":
            block.deletes = gone
        elif rule.on_delete == "mark":
            block.changes = [(key, self._marks()) for key in gone]
        return block

    def _marks(self) -> Values:
        return {name: value() if callable(value) else value for name, value in self._mapping.rule.mark.items()}

    async def _without_bad(self, work: Work, block: Block, position: Position | None) -> list[Outcome]:
        """Find what fails by itself, and write all the rest; take that out of the block, and return it."""
        by_row = {id(one.values): one for one in work.outcomes.values() if one.values is not None}
        bad: list[tuple[Part, Outcome]] = []

        async def put_aside(refused: Sequence[tuple[Part, RowError]]) -> None:
            ids = {id(part) for part, _ in refused}
            for parts in (block.upserts, block.deletes, block.changes):
                parts[:] = [one for one in cast("list[Any]", parts) if id(one) not in ids]
            for part, error in refused:
                outcome = by_row[id(part)] if isinstance(part, dict) else self._gone(part, work)
                outcome.error = error
                bad.append((part, outcome))
            await self._put_aside([outcome for _, outcome in bad[len(bad) - len(refused) :]])

        # What is deleted may have held a value that is unique, and that another row now has.
        await put_aside(await self._bad([*block.deletes, *block.changes], Block(only=block.only)))
        rest = Block(deletes=block.deletes, changes=block.changes, only=block.only)
        await put_aside(await self._bad(block.upserts, rest))
        try:
            await self._write(block, position)
        except RowError:  # Each is well by itself, but not beside another one.
            await self.abandon()
            await put_aside(await self._bad(block.upserts, rest, together=True))
            await self._write(block, position)
        return await self._tried_again(bad, block, position)

    def _gone(self, part: Part, work: Work) -> Outcome:
        key = cast("Key", cast("Any", part)[0] if _is_change(part) else part)
        return Outcome(key, dict(zip(self._mapping.source.key, work.gone[key], strict=True)))

    async def _bad(
        self, parts: Sequence[Part], beside: Block, *, together: bool = False
    ) -> list[tuple[Part, RowError]]:
        """Return what fails of parts, each by itself, or ``together`` with all those before it that do not."""
        if not parts:
            return []
        error = await self._error_of(_block_of(parts, beside))
        if error is None:
            return []
        if len(parts) == 1:
            return [(parts[0], error)]
        middle = len(parts) // 2
        bad = await self._bad(parts[:middle], beside, together=together)
        if together:
            ids = {id(part) for part, _ in bad}
            beside = _block_of([one for one in parts[:middle] if id(one) not in ids], beside)
        return bad + await self._bad(parts[middle:], beside, together=together)

    async def _error_of(self, block: Block) -> RowError | None:
        handle = await self._target.begin()
        try:
            await self._writer.write(handle, block, version=self._version)
        except RowError as refused:
            return refused
        finally:
            # Without transactions they are there now: they will be written again, in the same way.
            await self._target.rollback(handle)
        return None

    async def _tried_again(
        self, bad: list[tuple[Part, Outcome]], block: Block, position: Position | None
    ) -> list[Outcome]:
        """Write what has failed for a row that is another one by now, and return what fails still."""
        tried = _TRIED_AGAIN + 1
        while not self._is_open and 0 < len(bad) < tried and self._mapping.target.version is None:
            tried, again, bad = len(bad), bad, []
            for part, outcome in again:
                try:
                    await self._write(_block_of([part], Block(only=block.only)), position)
                except RowError:
                    await self.abandon()
                    bad.append((part, outcome))
                else:
                    outcome.error = None
                    _add(block, part)
        return [outcome for _, outcome in bad]

    async def _put_aside(self, failed: Sequence[Outcome]) -> None:
        for one in failed:
            assert one.error is not None
            await self.letters.put(self._mapping.key_of(one.source), one.source, one.error)
            self._progress.errors += 1
            self._progress.last_error = f"{type(one.error).__name__}: {one.error}"


def _block_of(parts: Sequence[Part], beside: Block) -> Block:
    block = Block([*beside.upserts], [*beside.changes], [*beside.deletes], beside.only)
    for part in parts:
        _add(block, part)
    return block


def _add(block: Block, part: Part) -> None:
    if isinstance(part, dict):
        block.upserts.append(part)
    elif _is_change(part):
        block.changes.append(cast("tuple[Key, Values]", part))
    else:
        block.deletes.append(part)


def _is_change(part: Part) -> bool:
    return len(part) == 2 and isinstance(part, tuple) and isinstance(part[1], dict)
