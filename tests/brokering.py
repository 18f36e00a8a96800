"""Brokers as tests see them: what is needed to send events to one, and a FastStream subscriber that reads them all."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from faststream import Context
from faststream.kafka import KafkaBroker
from faststream.nats import JStream, NatsBroker
from faststream.rabbit import RabbitBroker, RabbitQueue
from faststream.redis import RedisBroker, StreamSub

from fedorm.outbox.events import Event
from fedorm.relay.brokers import BrokerTarget
from fedorm.relay.cloudevents import received
from fedorm.relay.targets import PartlyDeliveredError, TargetUnavailableError

MESSAGE = Context("message")
KINDS = ["nats", "kafka", "redis", "rabbitmq"]


@dataclass
class Reader:
    """The events that a subscriber has got, in their order."""

    events: list[Event] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, message: Any) -> None:
        event = received(message)
        self.events.append(event)
        self.ids.add(event.id)
        self.changed.set()

    async def until(self, count: int) -> list[Event]:
        """Wait for ``count`` different events, and return all that came."""
        async with asyncio.timeout(30):
            while len(self.ids) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.events


@dataclass
class Place:
    """A destination of a test's own on a broker."""

    kind: str
    url: str
    subject: str = field(default_factory=lambda: f"shop_{secrets.token_hex(5)}")

    @property
    def options(self) -> dict[str, Any]:
        return {"stream": JStream(self.subject, subjects=[self.subject])} if self.kind == "nats" else {}

    def target(self, **options: Any) -> BrokerTarget:
        options = {"subject": self.subject, **self.options, **options}
        return BrokerTarget("*", options.pop("broker", self.url), **options)

    def broker(self) -> Any:
        match self.kind:
            case "nats":
                return NatsBroker(self.url, logger=None)
            case "kafka":
                return KafkaBroker(self.url.removeprefix("kafka://"), logger=None)
            case "redis":
                return RedisBroker(self.url)
            case _:
                return RabbitBroker(self.url, logger=None)

    def subscriber(self, broker: Any, **options: Any) -> Any:
        """Return the decorator of a subscriber that reads from the beginning."""
        match self.kind:
            case "nats":
                return broker.subscriber(self.subject, stream=JStream(self.subject, subjects=[self.subject]), **options)
            case "kafka":
                return broker.subscriber(self.subject, group_id=self.subject, auto_offset_reset="earliest", **options)
            case "redis":
                return broker.subscriber(stream=StreamSub(self.subject, last_id="0-0"), **options)
            case _:
                return broker.subscriber(RabbitQueue(self.subject, durable=True), **options)

    async def make(self) -> None:
        """Make what does not come by itself: RabbitMQ's queue, and a topic of several partitions."""
        if self.kind == "rabbitmq":
            async with self.broker() as broker:
                await broker.declare_queue(RabbitQueue(self.subject, durable=True))
        if self.kind == "kafka":
            from aiokafka.admin import AIOKafkaAdminClient, NewTopic

            admin = AIOKafkaAdminClient(bootstrap_servers=self.url.removeprefix("kafka://"))
            await admin.start()
            try:
                await admin.create_topics([NewTopic(self.subject, 4, 1)])
            finally:
                await admin.close()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reader]:
        broker, reader = self.broker(), Reader()

        async def take(message: Any = MESSAGE) -> None:
            reader.take(message)

        self.subscriber(broker)(take)
        async with self.started(broker):
            yield reader

    @asynccontextmanager
    async def started(self, broker: Any) -> AsyncIterator[Any]:
        connection = await broker.connect()
        await broker.start()
        try:
            yield broker
        finally:
            await broker.stop()
            if self.kind == "redis":  # FastStream leaves the connection open that was waiting.
                await connection.connection_pool.disconnect(inuse_connections=True)


async def deliver(target: BrokerTarget, events: Sequence[Event], downs: list[Exception]) -> None:
    """Hand events on until all are taken, as the relay does; ``downs`` gets what was said when the broker was down."""
    while events:
        try:
            await target.deliver(events)
            break
        except PartlyDeliveredError as error:
            if not isinstance(error.__cause__, TargetUnavailableError):
                raise
            downs.append(error)
            events = events[error.delivered :]
        except TargetUnavailableError as error:
            downs.append(error)
        await asyncio.sleep(0.2)


def first_of_each(events: Sequence[Event]) -> list[Event]:
    """Return the events without those that came a second time."""
    return list({event.id: event for event in reversed(events)}.values())[::-1]


def by_key(events: Sequence[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.key, []).append(event)
    return found
