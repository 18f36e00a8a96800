"""Kafka: a topic for each rule, and a consumer group whose members have its partitions among them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, TopicAlreadyExistsError

from fedorm.sync.brokers.channels import Channel, Take, pause_after

_COPIES = 3
_POLL_MS = 500
_AT_ONCE = 20
"""How many messages of a partition are fetched together."""


class KafkaChannel(Channel):
    """The topic is ``stream.rule``, and so is the group."""

    async def _prepare(self, publishes: bool) -> None:
        admin = self._publisher.broker.config.admin_client
        if self._topic not in await admin.list_topics():
            brokers = (await admin.describe_cluster())["brokers"]
            with contextlib.suppress(TopicAlreadyExistsError):
                copies = min(_COPIES, len(brokers))
                _check(await admin.create_topics([NewTopic(self._topic, self.route.partitions, copies)]))
        (described,) = await admin.describe_topics([self._topic])
        number = len(described["partitions"])
        if number != self.route.partitions:
            raise self._other_number(number, f"write that there, or delete topic {self._topic!r} once it is applied")

    async def _send(self, partition: int, sequence: int, body: bytes) -> None:
        await self._publisher.broker.publish(body, self._topic, partition=partition)

    async def _consume(self, take: Take, stopping: asyncio.Event) -> None:
        make = await self._publisher.broker.connect()
        # Never shorter than brokers allow by default.
        session = int(max(6.0, self.route.lease) * 1000)
        consumer: AIOKafkaConsumer = make(
            group_id=self._topic,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session,
            heartbeat_interval_ms=session // 3,
        )
        work = _Work(consumer, take, stopping)
        consumer.subscribe([self._topic], listener=work)
        await consumer.start()
        try:
            await work.run()
        finally:
            await work.end()
            await consumer.stop()

    @property
    def _topic(self) -> str:
        return f"{self.route.stream}.{self.route.token}"


class _Work(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is not typed
    """One task for each partition that has something to do; a partition is not fetched from meanwhile."""

    def __init__(self, consumer: AIOKafkaConsumer, take: Take, stopping: asyncio.Event) -> None:
        self._consumer, self._take, self._stopping = consumer, take, stopping
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}

    async def run(self) -> None:
        while not self._stopping.is_set():
            batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE * 8)
            for place, records in batches.items():
                # Polled on and on, as a member that does not is taken for dead; what is paused is left out.
                self._consumer.pause(place)
                self._tasks[place] = asyncio.create_task(self._write(place, records))
            for place, task in list(self._tasks.items()):
                if task.done():
                    del self._tasks[place]
                    task.result()

    async def _write(self, place: TopicPartition, records: Sequence[Any]) -> None:
        for record in records:
            tries = 0
            while True:
                try:
                    await self._take(place.partition, record.value)
                    break
                except Exception as error:
                    tries += 1
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause_after(error, tries)):
                            await self._stopping.wait()
                    if self._stopping.is_set():
                        return
            try:
                await self._consumer.commit({place: record.offset + 1})
            except (CommitFailedError, IllegalStateError):
                return  # Another member's by now, which writes this again.
            if self._stopping.is_set():
                return
        with contextlib.suppress(IllegalStateError):  # Another member's by now.
            self._consumer.resume(place)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Let go of partitions that another member gets: what is under way is written again there."""
        await self._cancel(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Begin where the group has come to."""

    async def end(self) -> None:
        """Wait until nothing is in hand, or cancel what is, after an error."""
        if self._stopping.is_set() and self._tasks:
            await asyncio.wait(self._tasks.values())
        await self._cancel(list(self._tasks))

    async def _cancel(self, places: Any) -> None:
        tasks = [task for place in places if (task := self._tasks.pop(place, None)) is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _check(answer: Any) -> None:
    """Raise what the broker has said of a topic."""
    from aiokafka.errors import for_code

    for _, code, *_ in answer.topic_errors:
        if code:
            error: type[KafkaError] = for_code(code)
            raise error()
