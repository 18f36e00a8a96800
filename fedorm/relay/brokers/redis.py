"""Redis: events are appended to streams, a batch in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faststream.redis import RedisBroker, RedisClusterBroker
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError, TimeoutError

from fedorm.relay.brokers.address import Address
from fedorm.relay.brokers.base import Outgoing, Publisher, UndeliverableEventError

_BUSY = ("OOM", "EXECABORT", "READONLY", "LOADING", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")


class RedisPublisher(Publisher):
    """Sends to streams, of which the last ``maxlen`` entries or some more are kept; None: all."""

    kind = "Redis"
    schemes = ("redis", "rediss")
    extra = "redis-broker"

    def __init__(self, address: Address, timeout: float, *, maxlen: int | None = None) -> None:
        super().__init__(address, timeout)
        self._maxlen = maxlen

    def make(self, url: str) -> Any:
        """Return a broker whose every answer has ``timeout`` seconds."""
        quiet: Any = None
        return RedisBroker(url, socket_timeout=self.timeout, socket_connect_timeout=self.timeout, logger=quiet)

    async def prepare(self) -> None:
        """Connect in fact: the client would do so with the first event."""
        await (await self.broker.connect()).ping()

    async def send(self, message: Outgoing) -> None:
        """Append one event."""
        await self._add(message)

    async def send_together(self, messages: Sequence[Outgoing]) -> list[Exception | None] | None:
        """Append all events in one ``MULTI``; a cluster's streams are in different places, and it has none."""
        if isinstance(self.broker, RedisClusterBroker):
            return None
        async with (await self.broker.connect()).pipeline(transaction=True) as pipeline:
            for message in messages:
                await self._add(message, pipeline=pipeline)
            answers = await pipeline.execute(raise_on_error=False)
        return [answer if isinstance(answer, Exception) else None for answer in answers]

    async def _add(self, message: Outgoing, **options: Any) -> None:
        await self.broker.publish(
            message.body,
            stream=message.subject,
            headers=message.headers,
            correlation_id=str(message.event.id),
            maxlen=self._maxlen,
            **options,
        )

    def refuses(self, error: Exception) -> bool:
        """Any answer, such as that there is no stream of that name, but those of a Redis that takes nothing now."""
        if isinstance(error, ConnectionError | TimeoutError):
            return False
        is_answer = isinstance(error, ResponseError) and not str(error).startswith(_BUSY)
        return is_answer or isinstance(error, UndeliverableEventError)

    def is_forbidden(self, error: Exception) -> bool:
        """A wrong password, or one that is missing."""
        return isinstance(error, AuthenticationError)
