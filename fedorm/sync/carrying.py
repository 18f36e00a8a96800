"""What carrying out one rule takes, for as long as this process owns it."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fedorm.exc import RowError
from fedorm.stores.base import Capability
from fedorm.stores.rows import Key, RowAccess, Values
from fedorm.sync.accounts import Progress
from fedorm.sync.applying import Applied, Applier, Work
from fedorm.sync.dead_letters import DeadLetters
from fedorm.sync.keys import is_key
from fedorm.sync.mapping import Outcome
from fedorm.sync.marking import is_marked
from fedorm.sync.positions import Position, Positions
from fedorm.sync.related import Related
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.sameness import Sameness
from fedorm.sync.strategies import EventDriven

if TYPE_CHECKING:
    from fedorm.federation import Federation

log = logging.getLogger("fedorm.sync")
_EPOCH = 2**40
"""How many versions an owner may give before they would be those of the next one."""


class StoppedError(Exception):
    """The rule is paused, or the process ends: the batch in hand is written, and no other is begun."""


@dataclass(slots=True)
class Carrying:
    """One rule with all that reads, writes and keeps account of it."""

    federation: Federation
    rule: ResolvedRule
    source: RowAccess
    target: RowAccess
    positions: Positions
    letters: DeadLetters
    epoch: int
    progress: Progress = field(default_factory=Progress)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    shared: bool = False
    """Whether other rules write to the target, and nothing says whose a row is: it may be another's."""
    is_one_of_several: bool = False
    """Whether other rules write to the target, whatever says whose a row is."""
    related: Related | None = None
    on_page: Callable[[int, int, int, int], None] | None = None
    """Told of each page of a pass: rows, and how many of them were written, deleted and failed."""
    total: int | None = None
    """How many rows the source has, where somebody has counted them for a pass."""
    applier: Applier = field(init=False)
    _moment: int = 0
    """The greatest version that is a moment: a clock may be set back."""
    _sameness: Sameness = field(init=False)

    def __post_init__(self) -> None:
        mapping = self.rule.mapping
        self.applier = self._applier()
        narrow = mapping.narrow(self.source.narrow_floats, self.target.narrow_floats)
        self._sameness = Sameness(mapping.target, rounds=self.target.rounds_moments, narrow=narrow)
        if mapping.rule.load:
            self.related = Related(self.federation, self.rule)

    def _applier(self, **options: Any) -> Applier:
        mapping = self.rule.mapping
        store = self.federation.stores[self.rule.target.service]
        counts = mapping.target.version is not None or Capability.VERSIONS in store.capabilities
        until = self._until if self.is_one_of_several and counts else None
        return Applier(
            *(mapping, self.target, self.positions, self.letters, self.progress, self.epoch), until=until, **options
        )

    def _until(self) -> float:
        return self.federation.sync.accounts(self.rule).until.get(self.rule.name, math.inf)

    # -- positions

    async def load(self) -> Position | None:
        """Return where to go on, with a version that no owner before has given."""
        position = await self.positions.load(self.epoch)
        return None if position is None else replace(position, version=self.first_version(position.version))

    def first_version(self, before: int = 0) -> int:
        """Return a version above all that owners before this one have given, and that this one has."""
        if isinstance(self.rule.strategy, EventDriven):
            # Relays own nothing: what they write later has to count, whenever their events came to be.
            self._moment = max(before + 1, self.applier.version + 1, self._moment + 1, int(time.time() * 1e6))
            return self._moment
        return max(before, self.epoch * _EPOCH, self.applier.version)

    async def write_apart(
        self,
        work: Work,
        position: Position | None,
        *,
        version: int | None = None,
        fences: Sequence[tuple[Positions, int]] = (),
    ) -> Applied:
        """Write a block beside what the strategy does, whose ``position`` stays where it is.

        Raises ``LeaseLostError`` for a fence that has a greater token.
        """
        applier = self._applier(alone=True, fences=fences)
        if version is None:
            version = self.next_version(position)
        return await applier.apply(work, None, version=version)

    def next_version(self, position: Position | None) -> int:
        """Return the version of a block that is written beside what the strategy does."""
        return self.first_version(position.version if position is not None else 0) + 1

    def check(self) -> None:
        """Raise ``StoppedError`` when no other batch is to be begun."""
        if self.stopping.is_set():
            raise StoppedError

    async def rest(self, seconds: float | None) -> None:
        """Wait, for ever if ``seconds`` is None. Raises ``StoppedError`` as soon as there is nothing to wait for."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return
        raise StoppedError

    # -- rows

    async def work_of(self, rows: Sequence[Values]) -> Work:
        """Return what rows of the source, as they are now, come to."""
        mapping = self.rule.mapping
        work = Work()
        objects = None
        if self.related is not None:
            found = await self.related.load([mapping.key_of(row) for row in rows])
            there = [row for row in rows if mapping.key_of(row) in found]
            for row in rows:
                if (key := mapping.key_of(row)) not in found:  # Gone since the row was read.
                    work.remove(mapping.target_key(key), key)
            rows, objects = there, [found[mapping.key_of(row)] for row in there]
        for outcome in await mapping.outcomes(rows, objects):
            work.want(outcome, mapping.key_of(outcome.source))
        return work

    async def work_of_keys(self, keys: Sequence[Key]) -> Work:
        """Return what the rows with these keys come to as they are now; those that are not there are gone."""
        mapping = self.rule.mapping
        found, refused = await self._read([*filter(is_key, keys)])
        work = await self.work_of(list(found.values()))
        for key in keys:
            if key in refused:
                row = dict(zip(mapping.source.key, key, strict=True))
                work.want(Outcome(mapping.target_key(key), row, error=refused[key]), key)
            elif key not in found:
                work.remove(mapping.target_key(key), key)
        return work

    async def _read(self, keys: Sequence[Key]) -> tuple[dict[Key, Values], dict[Key, RowError]]:
        """Read rows, and find those that their own model refuses, as a document's may."""
        try:
            return await self.source.read(keys), {}
        except RowError as error:
            if len(keys) == 1:
                return {}, {keys[0]: error}
        middle = len(keys) // 2
        one, other = await self._read(keys[:middle]), await self._read(keys[middle:])
        return one[0] | other[0], one[1] | other[1]

    async def differing(self, work: Work) -> Work:
        """Return what of the work is not in the target already."""
        there = await self.target.read(work.keys())
        left = Work()
        for key, outcome in work.outcomes.items():
            row = there.get(key)
            if outcome.values is None or row is None or self._sameness.differing(outcome.values, row):
                left.outcomes[key] = outcome
        rule, mapping = self.rule.declared, self.rule.mapping
        for key, source_key in work.gone.items():
            row = there.get(key)
            if row is None or self._sameness.differing(mapping.owns, row):
                continue  # Another rule's.
            if not (rule.mark and is_marked(rule, row, mapping.unmark, self._sameness)):
                left.gone[key] = source_key
        return left

    def differing_fields(self, wanted: Values, there: Values) -> list[str]:
        """Return the fields in which a row of the target is not as it should be."""
        return self._sameness.differing(wanted, there)

    def tell_left(self) -> None:
        """Say that copies of rows may be left that are gone: nothing tells whose they are."""
        target = self.rule.target.label
        problem = (
            f"copies of rows that are gone may be left in {target}, as other rules fill it, too: remove them, and say "
            f"which rows are this rule's with  owns={{...}}"
        )
        self.progress.last_error = problem
        log.error("sync rule %r: %s", self.rule.name, problem)

    def done(self, *, lag: float | None = None) -> None:
        """Take note that the target is as the source was ``lag`` seconds ago."""
        self.progress.last_sync_at = time.time()
        if lag is not None:
            self.progress.lag_seconds = max(0.0, lag)
