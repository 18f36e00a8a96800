"""What a kind of broker has to be able to do for a rule: keep its messages, in the order of each partition."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fedorm.exc import ConfigurationError, FedormError
from fedorm.relay.brokers.address import Address
from fedorm.relay.brokers.base import Publisher
from fedorm.relay.brokers.kinds import publisher_of
from fedorm.relay.targets import TargetUnavailableError
from fedorm.sync.errors import SyncRuleError
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.strategies import CDC

Take = Callable[[int, bytes], Awaitable[None]]
"""Writes a message of a partition; one for which it raises comes again."""
_CHANNELS = {"nats": "JetStreamChannel", "kafka": "KafkaChannel"}
_TIMEOUT = 10.0


class ChannelDownError(FedormError):
    """A broker takes or gives nothing at the moment."""


class NotNowError(FedormError):
    """A message is not written for a while, and nothing is wrong."""


def pause_after(error: Exception, tries: int) -> float:
    """Return after how many seconds a message comes again that could not be written so many times."""
    return 1.0 if isinstance(error, NotNowError) else min(30.0, 0.25 * 2 ** min(tries, 10))


@dataclass(frozen=True, slots=True)
class Route:
    """Where the messages of a rule go."""

    rule: str
    stream: str
    partitions: int
    lease: float
    """After so many seconds without a sign of life of who has a message, another gets it."""
    timeout: float = _TIMEOUT

    @property
    def token(self) -> str:
        """The rule's name as a part of names at the broker, which no other rule has."""
        plain = re.sub("[^A-Za-z0-9]+", "_", self.rule).strip("_")[:40]
        return f"{plain}_{hashlib.sha256(self.rule.encode()).hexdigest()[:6]}"


class Channel(ABC):
    """A connection for the messages of one rule; made anew after an error.

    Raises ``ConfigurationError`` for what no waiting mends, and ``ChannelDownError`` for everything else.
    """

    def __init__(self, route: Route, address: Address, publisher: Publisher) -> None:
        self.route, self._address, self._publisher = route, address, publisher

    @classmethod
    def options(cls, route: Route) -> dict[str, Any]:
        """Return what the connection has to know of the route."""
        return {}

    async def open(self, *, publishes: bool) -> None:
        """Connect, and make what the messages are kept in where it is missing."""
        try:
            # Twice: clients have a timeout of their own, whose errors say more.
            async with asyncio.timeout(2 * self.route.timeout):
                await self._publisher.connect()
                await self._prepare(publishes)
        except (ConfigurationError, ChannelDownError):
            raise
        except TargetUnavailableError as error:
            raise ChannelDownError(str(error)) from None
        except Exception as error:
            if self._publisher.is_forbidden(error):
                raise ConfigurationError(f"{self._address} refuses its user or password") from None
            raise self._down(error) from None

    async def close(self) -> None:
        """Disconnect, whatever state the connection is in."""
        try:
            async with asyncio.timeout(2 * self.route.timeout):
                await self._publisher.close()
        except Exception:  # noqa: S110 - it is gone either way
            pass

    async def send(self, partition: int, sequence: int, body: bytes) -> None:
        """Publish a message; return when the broker keeps it."""
        try:
            await self._send(partition, sequence, body)
        except Exception as error:
            raise self._down(error) from None

    async def consume(self, take: Take, stopping: asyncio.Event) -> None:
        """Give messages to ``take``, those of a partition one after the other, until stopped and none is in hand."""
        try:
            await self._consume(take, stopping)
        except ChannelDownError:
            raise
        except Exception as error:
            raise self._down(_first(error)) from None

    @abstractmethod
    async def _prepare(self, publishes: bool) -> None: ...

    @abstractmethod
    async def _send(self, partition: int, sequence: int, body: bytes) -> None: ...

    @abstractmethod
    async def _consume(self, take: Take, stopping: asyncio.Event) -> None: ...

    def _down(self, error: BaseException) -> ChannelDownError:
        # Not chained by its callers: a driver's message and its traceback may hold the password.
        words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return ChannelDownError(f"{self._address} cannot be used at the moment: {self._address.scrub(words)}")

    def _other_number(self, number: int, hint: str) -> SyncRuleError:
        return SyncRuleError(
            f"sync rule {self.route.rule!r}: {self._address} has {number} partitions for it, and the rule says "
            f"partitions={self.route.partitions}: {hint}"
        )


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def channels_of(broker: Any, rule: ResolvedRule, *, lease: float) -> Callable[[], Channel]:
    """Return what makes a rule's channel, not connected yet.

    Raises ``ConfigurationError`` for what is no such broker, and ``MissingDriverError`` without its package.
    """
    strategy = rule.strategy
    assert isinstance(strategy, CDC)
    assert strategy.through is not None
    route = Route(rule.name, strategy.through, strategy.partitions, lease)
    options = {"stream": strategy.through} if _looks_like_nats(broker) else {}
    module, address, _ = publisher_of(broker, route.timeout, options)
    if module not in _CHANNELS:
        raise ConfigurationError(f"{address}: rules go through NATS or Kafka, which keep an order within partitions")
    channel: type[Channel] = getattr(importlib.import_module(f"fedorm.sync.brokers.{module}"), _CHANNELS[module])
    _, address, make = publisher_of(broker, route.timeout, channel.options(route))
    return lambda: channel(route, address, make())


def _looks_like_nats(broker: Any) -> bool:
    if isinstance(broker, str):
        return broker.partition("://")[0].lower() in ("nats", "tls")
    return any(base.__module__.startswith("faststream.nats") for base in type(broker).__mro__)
