"""``EventDriven``: a target of the outbox's relay that writes what events say about rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from fedorm.relay.decoding import to_column
from fedorm.relay.targets import TargetUnavailableError
from fedorm.stores.rows import Key, RowShape
from fedorm.stores.sql import SQLStore
from fedorm.sync.accounts import Progress
from fedorm.sync.carrying import Carrying
from fedorm.sync.errors import LeaseLostError
from fedorm.sync.hearing import event_type
from fedorm.sync.keys import key_of_json
from fedorm.sync.passes import snapshot
from fedorm.sync.positions import Position
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.strategies import EventDriven

if TYPE_CHECKING:
    from fedorm.federation import Federation
    from fedorm.outbox.events import Event
    from fedorm.sync.sync import Sync

_SAY = 1.0
"""How often, in seconds, it is said what was done."""


class EventTarget:
    """Takes the events of one rule's source."""

    def __init__(self, sync: Sync, rule: ResolvedRule) -> None:
        self._sync, self._rule = sync, rule
        self.name = f"sync:{rule.name}"
        assert rule.source.model is not None
        self.types: tuple[str, ...] = (f"{event_type(rule.source.model)}.*",)
        self._decode: Decoder | None = None
        self._carrying: Carrying | None = None
        self._progress = Progress(state="following")
        self._said = 0.0

    async def open(self, federation: Federation) -> None:
        """Look at what the events hold."""
        self._decode = Decoder(self._rule.mapping.source, federation)
        self._carrying = self._sync.carrying(self._rule, epoch=0, progress=self._progress)

    async def close(self) -> None:
        """Forget what was looked at: the connections are the federation's."""
        self._decode = self._carrying = None

    async def deliver(self, events: Sequence[Event]) -> None:
        """Write what the events come to."""
        await self.deliver_fenced(events, {})

    async def deliver_fenced(self, events: Sequence[Event], tokens: Mapping[int, int]) -> None:
        """Write what the events come to, unless a relay has written that was given their partitions later."""
        rule, carrying = self._rule, self._carrying
        assert self._decode is not None
        assert carrying is not None
        position = await carrying.positions.peek()
        if position is None or position.stage != "stream" or not position.is_of(rule.strategy):
            raise TargetUnavailableError(f"sync rule {rule.name!r} has not ended its first snapshot")
        account = await self._sync.accounts(rule).get(rule.name)
        if account is not None and (account.paused or account.held):
            raise TargetUnavailableError(f"sync rule {rule.name!r} is paused")
        # Not what the events say: of what a session did not change, it wrote what it had read, and others may have
        # changed since. An event says that a row is not as it was, and the row says how it is.
        keys = dict.fromkeys(key for event in events for key in self._decode.keys(event))
        # Before it is read: where the greatest version counts, it is of who has read last, not of who writes last.
        version = carrying.next_version(position)
        work = await carrying.work_of_keys(list(keys))
        last = max((event.at.timestamp() for event in events if event.at is not None), default=time.time())
        fences = self._sync.fences(rule, tokens)
        try:
            await carrying.write_apart(work, position, version=version, fences=fences)
        except LeaseLostError as error:
            raise TargetUnavailableError(f"sync rule {rule.name!r}: another relay has taken over") from error
        carrying.done(lag=time.time() - last)
        self._progress.lag_rows = 0
        if time.monotonic() - self._said > _SAY:
            self._said = time.monotonic()
            await self._sync.accounts(rule).add(rule.name, self._progress)


class Decoder:
    """Finds the rows that the outbox's events are about."""

    def __init__(self, shape: RowShape, federation: Federation) -> None:
        self._shape = shape
        self._convert: dict[str, tuple[str, Callable[[Any], Any]]] = {}
        if shape.document is None:
            dialect = cast(SQLStore, federation.stores[shape.service]).engine.dialect
            for field in shape.key:
                column = shape.columns[field]
                self._convert[field] = str(column.name), to_column(column.type, dialect)

    def keys(self, event: Event) -> list[Key]:
        """Return the key of an event's row; of a row that was given another key, the old one, too."""
        data = cast("Mapping[str, Any]", event.data)
        now = data["key"]
        changed = {name: pair[0] for name, pair in data.get("changed", {}).items() if name in now}
        return [self._key(now), *([self._key({**now, **changed})] if changed else [])]

    def _key(self, data: Mapping[str, Any]) -> Key:
        if self._shape.document is not None:
            return key_of_json([data[name] for name in self._shape.key], self._shape)
        return tuple(convert(data[name]) for name, convert in self._convert.values())


class Following:
    """The part of an event-driven rule that one process at a time does: the first snapshot. Relays do the rest."""

    def __init__(self, carrying: Carrying) -> None:
        self._carrying = carrying
        strategy = carrying.rule.strategy
        assert isinstance(strategy, EventDriven)
        self._page = strategy.page

    async def run(self) -> None:
        """Make the snapshot, and then wait for ever, until stopped."""
        carrying = self._carrying
        position = await carrying.load()
        if position is None or not position.is_of(carrying.rule.strategy):
            fresh = position is None and await carrying.target.count() == 0
            position = Position("snapshot", compares=not fresh, version=carrying.first_version())
            await carrying.positions.save(None, position, carrying.epoch)
        if position.stage == "snapshot":
            carrying.progress.state = "snapshot"
            await snapshot(carrying, position, page=self._page)  # Events wait meanwhile.
        carrying.progress.state = "following"
        await carrying.rest(None)
