"""NATS: a JetStream work queue, and one durable consumer for each partition, which has one message out at a time."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Any

import nats.errors
from faststream.nats import JStream
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, RetentionPolicy

from fedorm.relay.brokers.base import Publisher
from fedorm.sync.brokers.channels import Channel, Route, Take, pause_after

_PULL = 1.0
"""For how many seconds the server is asked for a message at a time."""


class JetStreamChannel(Channel):
    """Subjects are ``stream.rule.partitions.partition``; an acknowledged message is gone from the stream."""

    @classmethod
    def options(cls, route: Route) -> dict[str, Any]:
        """Return the stream, which is made where it is missing."""
        stream = JStream(
            route.stream,
            subjects=[f"{route.stream}.>"],
            retention=RetentionPolicy.WORK_QUEUE,
            # Only for repeats of a message whose confirmation got lost: what is published anew has new ids.
            duplicate_window=60.0,
        )
        return {"stream": stream}

    def __init__(self, route: Route, address: Any, publisher: Publisher) -> None:
        super().__init__(route, address, publisher)
        self._made: Any = None
        self._token = secrets.token_hex(4)

    async def _prepare(self, publishes: bool) -> None:
        there = await self._consumers()
        if publishes:
            await self._check_partitions(there)
        for partition in range(self.route.partitions):
            if there.get(self._consumer(partition)) is None:
                await self._jetstream.add_consumer(self.route.stream, self._config(partition))

    async def _consumers(self) -> dict[str, ConsumerInfo]:
        found: dict[str, ConsumerInfo] = {}
        while True:
            page = await self._jetstream.consumers_info(self.route.stream, offset=len(found))
            new = {one.name: one for one in page if one.name not in found}
            found |= new
            if not new:
                return found

    async def _check_partitions(self, there: dict[str, ConsumerInfo]) -> None:
        """Refuse another number of partitions while messages of the old ones wait: newer ones would overtake them."""
        mine, other = f"{self.route.token}-{self.route.partitions}-", {}
        for name, info in there.items():
            if name.startswith(f"{self.route.token}-") and not name.startswith(mine):
                other[name] = info
        waiting = sum((info.num_pending or 0) + (info.num_ack_pending or 0) for info in other.values())
        if waiting:
            number = int(next(iter(other)).rsplit("-", 2)[1])
            raise self._other_number(number, f"{waiting} messages of those have to be applied first")
        for name in other:
            await self._jetstream.delete_consumer(self.route.stream, name)

    def _config(self, partition: int) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=self._consumer(partition),
            filter_subject=self._subject(partition),
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self.route.lease,
            max_deliver=-1,
            # The next message of a partition is given to nobody before this one was acknowledged.
            max_ack_pending=1,
        )

    async def _send(self, partition: int, sequence: int, body: bytes) -> None:
        await self._jetstream.publish(
            self._subject(partition),
            body,
            timeout=self.route.timeout,
            stream=self.route.stream,
            headers={"Nats-Msg-Id": f"{self._subject(partition)}/{sequence}/{self._token}"},
        )

    async def _consume(self, take: Take, stopping: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for partition in range(self.route.partitions):
                group.create_task(self._follow(partition, take, stopping))

    async def _follow(self, partition: int, take: Take, stopping: asyncio.Event) -> None:
        subscription = await self._jetstream.pull_subscribe_bind(self._consumer(partition), self.route.stream)
        try:
            while not stopping.is_set():
                try:
                    (message,) = await subscription.fetch(1, timeout=_PULL)
                except nats.errors.TimeoutError:
                    continue
                async with self._held(message):
                    try:
                        await take(partition, message.data)
                    except Exception as error:
                        await message.nak(delay=pause_after(error, message.metadata.num_delivered or 1))
                        continue
                await message.ack()
        finally:
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()

    @contextlib.asynccontextmanager
    async def _held(self, message: Any) -> Any:
        """Say again and again that a message is still being worked on."""

        async def hold() -> None:
            while True:
                await asyncio.sleep(self.route.lease / 3)
                with contextlib.suppress(nats.errors.Error):
                    await message.in_progress()

        holding = asyncio.create_task(hold())
        try:
            yield
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)

    def _subject(self, partition: int) -> str:
        return f"{self.route.stream}.{self.route.token}.{self.route.partitions}.{partition}"

    def _consumer(self, partition: int) -> str:
        return f"{self.route.token}-{self.route.partitions}-{partition}"

    @property
    def _jetstream(self) -> Any:
        if self._made is None:
            self._made = self._publisher.broker.connection.jetstream(timeout=self.route.timeout)
        return self._made
