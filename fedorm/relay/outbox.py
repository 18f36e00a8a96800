"""``fed.outbox``: what events are handed on to, the relay that does it, and what has become of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fedorm.exc import ConfigurationError, FedormError, UnknownServiceError
from fedorm.relay.handlers import Handler
from fedorm.relay.lines import Line
from fedorm.relay.matching import as_types
from fedorm.relay.models import ModelTarget
from fedorm.relay.relay import Relay
from fedorm.relay.retention import sweep
from fedorm.relay.sources import Held, Source
from fedorm.relay.sql_source import SQLSource
from fedorm.relay.targets import Target
from fedorm.stores.base import Capability, DocumentStore
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.federation import Federation

TargetT = TypeVar("TargetT", bound=Target)
ATTEMPTS = 12
"""How often an event is tried at a target before it is put aside: over about twenty minutes."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """How a target of this process's relay does."""

    name: str
    types: tuple[str, ...]
    delivered: int
    failures: int
    error: str | None
    resting: float
    """For how many seconds more it is left alone, as it was down."""


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """One service's outbox: numbers of events, and how old the oldest is that somebody has not got, in seconds."""

    service: str
    waiting: int
    oldest: float | None
    kept: int
    held: dict[str, int]
    """By target, events that are tried again or wait behind such a one."""
    failed: dict[str, int]
    """By target, events that were put aside."""
    error: str | None = None
    """Why the service could not be asked."""


class Outbox:
    """The outboxes of a federation's services, and what their events are handed on to."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._lines: dict[str, Line] = {}
        self._relays: list[Relay] = []

    # -- what events are handed on to

    def add(self, *targets: Target, attempts: int | None = ATTEMPTS) -> None:
        """Hand events on to ``targets``: to handlers, or to objects with the methods of ``relay.targets.Target``.

        An event that fails ``attempts`` times at one is put aside there, and its key goes on; with None it is tried
        for ever, and its key waits. All relays of a federation have to know the same targets: an event is removed
        when it was handed on to those that the relay at work has.
        """
        if attempts is not None and attempts < 1:
            raise ConfigurationError("attempts: at least 1, or None to try for ever")
        for target in targets:
            if target.name in self._lines:
                raise ConfigurationError(f"two targets of events have the name {target.name!r}: give one another name")
            self._lines[target.name] = Line(target, attempts)

    def to_model(
        self,
        types: str | Iterable[str],
        model: type[Any],
        *,
        fields: Mapping[str, str] | None = None,
        name: str | None = None,
        deleted: str | Iterable[str] = "*.deleted",
        attempts: int | None = ATTEMPTS,
    ) -> None:
        """Keep the rows of ``model``, of whatever service, as the events say: by primary key, inserted or changed.

        ``fields`` says which value of an event goes into which attribute, ``{"id": "order_id"}``; without it those of
        the same name. Events of types that match ``deleted`` delete. ``name`` is what the inbox knows it by.
        """
        self.add(ModelTarget(as_types(types), model, fields, name, as_types(deleted)), attempts=attempts)

    def to_broker(
        self, types: str | Iterable[str], broker: Any, *, attempts: int | None = ATTEMPTS, **options: Any
    ) -> None:
        """Publish events as CloudEvents through a FastStream broker; ``options`` are those of ``BrokerTarget``."""
        from fedorm.relay.brokers import BrokerTarget

        self.add(BrokerTarget(as_types(types), broker, **options), attempts=attempts)

    @property
    def targets(self) -> list[Target]:
        """What events are handed on to."""
        return [line.target for line in self._lines.values()]

    # -- the relay

    async def run(
        self,
        services: Iterable[str] | None = None,
        *,
        keep: float = 0.0,
        inbox_keep: float = 3600.0,
        workers: int = 2,
        batch: int = 500,
        lease: float = 10.0,
        grace: float = 10.0,
    ) -> None:
        """Hand events on until cancelled, or until ``stop()``; a batch in hand is ended then, within ``grace`` seconds.

        ``services`` are those whose outboxes are read, all if not given. Delivered events are removed at once, or
        after ``keep`` seconds. Many may run at once, in one process or in many: ``workers`` is how many batches, of at
        most ``batch`` events, each service's are handed on at a time here. Where a database has no locks that end with
        their connection (SQLite, MongoDB), what a killed relay had in hand is free again after ``lease`` seconds.
        """
        if not self._lines:
            raise ConfigurationError("there is nothing to hand events on to: fed.outbox.add(), to_model(), to_broker()")
        sources = self._sources(services, keep=keep, lease=lease)
        relay = Relay(self._federation, sources, list(self._lines.values()), workers=workers, batch=batch)
        self._relays.append(relay)
        bells = [(self._federation.stores[source.service].on_events, relay.bell(source.service)) for source in sources]
        for listeners, ring in bells:
            listeners.append(ring)
        sweeping = asyncio.create_task(sweep(self._inboxes(), sources, keep=keep, inbox_keep=inbox_keep))
        try:
            await relay.run(grace)
        finally:
            self._relays.remove(relay)
            for listeners, ring in bells:
                listeners.remove(ring)
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    def stop(self) -> None:
        """End every ``run()`` of this federation after the batches in hand."""
        for relay in self._relays:
            relay.stop()

    @asynccontextmanager
    async def running(self, services: Iterable[str] | None = None, **options: Any) -> AsyncIterator[None]:
        """Run the relay as long as the block runs; ``options`` are those of ``run()``."""
        task = asyncio.create_task(self.run(services, **options))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def wake(self, service: str) -> None:
        """Say that events of a service were committed, where nobody else does; any thread may."""
        for relay in self._relays:
            relay.bell(service)()

    def _inboxes(self) -> list[Source]:
        services = {getattr(line.target, "service", None) for line in self._lines.values()}
        return [source for source in self._sources(None) if source.service in services]

    def _sources(self, services: Iterable[str] | None, *, keep: float = 0.0, lease: float = 10.0) -> list[Source]:
        stores = self._federation.stores
        wanted = list(stores) if services is None else [services] if isinstance(services, str) else list(services)
        sources: list[Source] = []
        for name in wanted:
            store = stores.get(name)
            if store is None:
                raise UnknownServiceError(name, known=stores)
            if isinstance(store, SQLStore) and Capability.TRANSACTIONS in store.capabilities:
                sources.append(SQLSource(store, keep=keep, lease=lease))
            elif isinstance(store, DocumentStore) and (store.keeps_own or Capability.TRANSACTIONS in store.may_have):
                from fedorm.relay.mongodb_source import MongoDBSource

                sources.append(MongoDBSource(cast(Any, store), keep=keep, lease=lease))
            elif services is not None:
                raise ConfigurationError(f"service {name!r} at {store.address} has no transactions, and so no outbox")
        return sources

    # -- what has become of them

    async def status(self, services: Iterable[str] | None = None) -> list[OutboxStatus]:
        """Count the events of these services' outboxes, or of every service's.

        A service that does not answer is there with its ``error``.
        """

        async def ask(source: Source) -> OutboxStatus:
            try:
                found = await source.backlog()
            except FedormError as error:
                return OutboxStatus(source.service, 0, None, 0, {}, {}, str(error))
            return OutboxStatus(source.service, found.waiting, found.oldest, found.kept, found.held, found.failed)

        return list(await asyncio.gather(*map(ask, self._sources(services))))

    def targets_status(self) -> list[TargetStatus]:
        """Say how the targets do in this process's relays."""
        now = time.time()
        return [
            TargetStatus(
                line.name,
                line.types.patterns,
                line.delivered,
                line.failures,
                line.last_error,
                max(0.0, line.resume_at - now),
            )
            for line in self._lines.values()
        ]

    async def failed(self, service: str | None = None, *, target: str | None = None) -> list[Held]:
        """Return the events that were put aside, with the errors they have failed with."""
        return await self._troubles(service, target, failed=True)

    async def retrying(self, service: str | None = None, *, target: str | None = None) -> list[Held]:
        """Return the events that have failed and are tried again; later ones of their keys wait behind them."""
        return await self._troubles(service, target, failed=False)

    async def _troubles(self, service: str | None, target: str | None, *, failed: bool) -> list[Held]:
        sources = self._sources(None if service is None else [service])
        found = await asyncio.gather(*(source.troubles(target=target, failed=failed) for source in sources))
        return [one for some in found for one in some]

    async def retry(
        self, ids: Collection[str] | None = None, *, service: str | None = None, target: str | None = None
    ) -> int:
        """Hand events on anew that were put aside, of these ids or all, and return how many.

        Later events of their keys have gone on meanwhile: such an event comes out of its order.
        """
        sources = self._sources(None if service is None else [service])
        numbers = [await source.retry(target=target, ids=_ids(ids)) for source in sources]
        for source in sources:
            self.wake(source.service)
        return sum(numbers)

    async def drop(
        self, ids: Collection[str] | None = None, *, service: str | None = None, target: str | None = None
    ) -> int:
        """Give up events that were put aside, of these ids or all, and return how many."""
        sources = self._sources(None if service is None else [service])
        return sum([await source.drop(target=target, ids=_ids(ids)) for source in sources])


def _ids(ids: Collection[str] | None) -> Collection[str] | None:
    return [ids] if isinstance(ids, str) else ids


class WithOutbox:
    """The part of a ``Federation`` that hands events on."""

    @cached_property
    def outbox(self) -> Outbox:
        """The outboxes of the services: what their events are handed on to, the relay, and its figures."""
        return Outbox(cast("Federation", self))


__all__ = ["Handler", "Outbox", "OutboxStatus", "TargetStatus", "WithOutbox"]
