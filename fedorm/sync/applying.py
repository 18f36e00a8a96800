"""Writing what a rule makes of rows to its target, a whole block at a time; rows that fail are put aside alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedorm.exc import RowError
from fedorm.stores.rows import Block, Key, RowAccess, Values
from fedorm.sync.accounts import Progress
from fedorm.sync.dead_letters import DeadLetters
from fedorm.sync.mapping import Mapping, Outcome
from fedorm.sync.positions import Position, Positions
from fedorm.sync.writing import Writer


@dataclass(slots=True)
class Work:
    """What is to be done to the target: the last outcome of each of the target's keys."""

    outcomes: dict[Key, Outcome] = field(default_factory=dict)
    gone: dict[Key, Key] = field(default_factory=dict)
    """Target's keys of rows that are gone, and which rows of the source those were."""

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
        self._alone = alone
        """Whether each block is committed by itself, without a position."""
        self._careful = False
        """Whether each part of a transaction is, as one of them has a row that fails."""
        self._version = 0

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
        block = self._block(work)
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
        written = [self._mapping.key_of(one.source) for one in work.outcomes.values() if one not in failed]
        done = Applied(len(block.upserts), len(block.deletes) + len(block.changes), len(failed))
        self._progress.synced += done.written
        self._progress.deleted += done.deleted
        await self.letters.settled([*written, *work.gone.values()])
        return done

    async def _write(self, block: Block, position: Position | None) -> None:
        if not self._is_open:
            self.handle, self._is_open = await self._target.begin(), True
        try:
            for fence, token in self._fences:
                await fence.save(self.handle, Position("stream", version=self._version), token)
            if len(block):
                await self._writer.write(self.handle, block, version=position.version if position else self._version)
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

    async def abandon(self) -> None:
        """Undo what is not committed."""
        if self._is_open:
            handle, self.handle, self._is_open = self.handle, None, False
            await self._target.rollback(handle)

    # -- what cannot be written

    def _block(self, work: Work) -> Block:
        """Return what is written: of rows that are gone, what the rule says becomes of their copies."""
        rule = self._mapping.rule
        block = Block(upserts=[one.values for one in work.outcomes.values() if one.values is not None])
        if rule.on_delete == "delete":
            block.deletes = list(work.gone)
        elif rule.on_delete == "mark":
            block.changes = [(key, self._marks()) for key in work.gone]
        return block

    def _marks(self) -> Values:
        return {name: value() if callable(value) else value for name, value in self._mapping.rule.mark.items()}

    async def _without_bad(self, work: Work, block: Block, position: Position | None) -> list[Outcome]:
        """Find the rows that fail, each by itself, and write all others; return those."""
        by_row = {id(one.values): one for one in work.outcomes.values() if one.values is not None}
        bad: list[Outcome] = []
        for values, error in await self._bad(block.upserts):
            outcome = by_row[id(values)]
            outcome.error = error
            bad.append(outcome)
        refused = {id(one.values) for one in bad}
        rest = replace(block, upserts=[values for values in block.upserts if id(values) not in refused])
        block.upserts[:] = rest.upserts
        await self._put_aside(bad)
        await self._write(rest, position)
        return bad

    async def _bad(self, rows: Sequence[Values]) -> list[tuple[Values, RowError]]:
        if not rows:
            return []
        handle = await self._target.begin()
        error: RowError | None = None
        try:
            await self._writer.write(handle, Block(upserts=list(rows)), version=self._version)
        except RowError as refused:
            error = refused
        finally:
            # Without transactions they are there now: they will be written again, in the same way.
            await self._target.rollback(handle)
        if error is None:
            return []
        if len(rows) == 1:
            return [(rows[0], error)]
        middle = len(rows) // 2
        return await self._bad(rows[:middle]) + await self._bad(rows[middle:])

    async def _put_aside(self, failed: Sequence[Outcome]) -> None:
        for one in failed:
            assert one.error is not None
            await self.letters.put(self._mapping.key_of(one.source), one.source, one.error)
            self._progress.errors += 1
            self._progress.last_error = f"{type(one.error).__name__}: {one.error}"
