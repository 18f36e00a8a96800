"""``EventDriven``: a target of the outbox's relay that writes what events say about rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from fedorm.relay.decoding import to_column
from fedorm.relay.targets import TargetUnavailableError
from fedorm.stores.feeds import Change
from fedorm.stores.rows import Key, RowShape, Values
from fedorm.stores.sql import SQLStore
from fedorm.sync.accounts import Progress
from fedorm.sync.applying import Applier
from fedorm.sync.carrying import Carrying
from fedorm.sync.hearing import event_type
from fedorm.sync.passes import go_through, remove_absent
from fedorm.sync.positions import Position
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.strategies import EventDriven
from fedorm.sync.touching import Touched, work_of

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
        rule, carrying = self._rule, self._carrying
        assert self._decode is not None
        assert carrying is not None
        position = await carrying.positions.peek()
        if position is None or position.stage != "stream":
            raise TargetUnavailableError(f"sync rule {rule.name!r} has not ended its first snapshot")
        account = await self._sync.accounts(rule).get(rule.name)
        if account is not None and (account.paused or account.held):
            raise TargetUnavailableError(f"sync rule {rule.name!r} is paused")
        touched = Touched()
        for event in events:
            for change in self._decode.changes(event):
                touched.take(change)
        work = await work_of(carrying, touched)
        applier = Applier(
            rule.mapping, carrying.target, carrying.positions, carrying.letters, self._progress, 0, alone=True
        )
        last = max((event.at.timestamp() for event in events if event.at is not None), default=time.time())
        await applier.apply(work, None, version=carrying.first_version(position.version))
        carrying.done(lag=time.time() - last)
        if time.monotonic() - self._said > _SAY:
            self._said = time.monotonic()
            await self._sync.accounts(rule).add(rule.name, self._progress)


class Decoder:
    """Makes changes of the events that the outbox has written for them."""

    def __init__(self, shape: RowShape, federation: Federation) -> None:
        self._shape = shape
        self._convert: dict[str, tuple[str, Callable[[Any], Any]]] = {}
        if shape.document is None:
            dialect = cast(SQLStore, federation.stores[shape.service]).engine.dialect
            self._convert = {
                str(column.name): (name, to_column(column.type, dialect)) for name, column in shape.columns.items()
            }

    def changes(self, event: Event) -> list[Change]:
        """Return what an event says; of a changed key, that the old row is gone, too."""
        data = cast("Mapping[str, Any]", event.data)
        values = self._values({**data["key"], **data["values"]})
        key = self._key(values)
        if event.type.endswith(".deleted"):
            return [Change(self._shape, "delete", key)]
        old = {name: pair[0] for name, pair in data.get("changed", {}).items()}
        before = self._values({**data["key"], **data["values"], **old}) if old else None
        return [Change(self._shape, "upsert", key, values, before)]

    def _values(self, data: Mapping[str, Any]) -> Values:
        if self._shape.document is not None:
            document = self._shape.document.model_validate(dict(data))
            return {name: getattr(document, name) for name in self._shape.fields}
        found = {}
        for name, value in data.items():
            if name in self._convert:
                attribute, convert = self._convert[name]
                found[attribute] = convert(value)
        return found

    def _key(self, values: Values) -> Key:
        return tuple(values[name] for name in self._shape.key)


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
        if position is None:
            fresh = await carrying.target.count() == 0
            position = Position("snapshot", compares=not fresh, version=carrying.first_version())
            await carrying.positions.save(None, position, carrying.epoch)
        if position.stage == "snapshot":
            carrying.progress.state = "snapshot"
            await self.snapshot(position)
        carrying.progress.state = "following"
        await carrying.rest(None)

    async def snapshot(self, position: Position) -> None:
        """Write all rows; events wait meanwhile."""
        carrying = self._carrying
        done = await go_through(carrying, position, page=self._page)
        if position.compares:
            done = await remove_absent(carrying, done, page=self._page)
        await carrying.positions.save(None, Position("stream", version=done.version + 1), carrying.epoch)
