"""A broker as a target of the relay: events of one key in their order, those of different keys at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fedorm.exc import ConfigurationError
from fedorm.relay.brokers.base import Mode, Outgoing, Publisher, Subject, UndeliverableEventError, subject_of
from fedorm.relay.brokers.kinds import publisher_of
from fedorm.relay.matching import as_types
from fedorm.relay.targets import PartlyDeliveredError, TargetUnavailableError

if TYPE_CHECKING:
    from fedorm.federation import Federation
    from fedorm.outbox.events import Event

_AT_ONCE = 256
"""How many keys have an event on its way to the broker."""
_REMEMBERED = 10_000


class _Down(Exception):  # noqa: N818 - it ends the tasks of a batch, and nobody else sees it
    """The broker takes nothing at the moment: why is its cause."""


class BrokerTarget:
    """Hands events to a broker as CloudEvents; each is sent when the one before it of its key was confirmed.

    ``broker`` is a URL or a broker object of FastStream's. ``subject`` is where an event goes, with ``{type}``,
    ``{service}`` and ``{key}`` filled in, or a function of the event: a NATS subject, a Kafka topic, a Redis stream or
    a RabbitMQ routing key. ``mode="structured"`` sends JSON with all attributes in it, ``"binary"`` the data, and the
    attributes as headers. ``name`` has to be given where two targets have the same kind of broker and subject.
    ``timeout``: seconds that the broker has for each confirm. ``options``: ``stream`` (NATS), ``maxlen`` (Redis),
    ``exchange`` and ``mandatory`` (RabbitMQ).

    ``deliver()`` may run several times at once, over one connection. A connection that fails is closed and made anew
    with the next events. Raises ``ConfigurationError`` for settings that cannot be and ``MissingDriverError`` without
    the driver's package.
    """

    def __init__(
        self,
        types: str | Iterable[str],
        broker: Any,
        *,
        subject: Subject = "{type}",
        mode: Mode = "binary",
        name: str | None = None,
        timeout: float = 10.0,
        **options: Any,
    ) -> None:
        kind, self._address, self._make = publisher_of(broker, timeout, options)
        if mode not in ("binary", "structured"):
            raise ConfigurationError(f'mode is "binary" or "structured", not {mode!r}')
        shown = subject if isinstance(subject, str) else getattr(subject, "__qualname__", type(subject).__name__)
        self.types, self.name = as_types(types), name or f"{kind}:{shown}"
        self._subject, self._mode, self._timeout = subject_of(subject), mode, timeout
        self._connecting = asyncio.Lock()
        self._publisher: Publisher | None = None
        self._closing: set[Publisher] = set()
        self._confirmed: OrderedDict[str, None] = OrderedDict()
        """What was confirmed in a batch that failed: it is not sent again when that batch comes again."""

    def __repr__(self) -> str:
        return f"<BrokerTarget {self.name!r} at {self._address}>"

    async def open(self, federation: Federation) -> None:
        """Connect. Raises ``TargetUnavailableError``, or ``ConfigurationError`` for a wrong user or password."""
        self._connecting = asyncio.Lock()
        await self._connected()

    async def close(self) -> None:
        """Disconnect; a broker object that was running before goes on."""
        await self._drop(self._publisher)
        for publisher in list(self._closing):
            await self._drop(publisher)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Send ``events`` and return when the broker has confirmed all."""
        sent = [event.id in self._confirmed for event in events]
        try:
            publisher = await self._connected()
        except ConfigurationError as settings:  # A password that was changed, say, is no fault of these events.
            raise TargetUnavailableError(str(settings)) from None
        refused: dict[int, Exception] = {}
        try:
            await self._send(publisher, events, sent, refused)
        except _Down as down:
            self._remember(events, sent)
            await self._drop(publisher)
            error = self._unavailable(down.__cause__ or down)
            taken = sent.index(False)
            if taken:
                raise PartlyDeliveredError(str(error), delivered=taken) from error
            raise error from None
        except BaseException:
            self._remember(events, sent)
            raise
        if refused:
            self._remember(events, sent)
            first = min(refused)
            event, reason = events[first], refused[first]
            raise PartlyDeliveredError(
                f"{self._address} does not take event {event.id} of type {event.type!r}: {self._in_words(reason)}",
                delivered=sent.index(False),
            )
        for event in events:
            self._confirmed.pop(event.id, None)

    async def _send(
        self, publisher: Publisher, events: Sequence[Event], sent: list[bool], refused: dict[int, Exception]
    ) -> None:
        """Send what is not ``sent`` yet, and note there what was confirmed, and in ``refused`` what never will be."""
        chains: dict[str, list[tuple[int, Outgoing]]] = {}
        stuck: set[str] = set()
        for number, event in enumerate(events):
            if sent[number] or event.key in stuck:
                continue
            try:
                message = publisher.outgoing(event, self._subject(event), self._mode)
            except Exception as error:  # of the user's function, or data that is no JSON
                refused[number] = error
                stuck.add(event.key)
                continue
            chains.setdefault(event.key, []).append((number, message))
        if not await self._send_together(publisher, list(chains.values()), sent, refused):
            await self._send_singly(publisher, deque(chains.values()), sent, refused)

    async def _send_together(
        self,
        publisher: Publisher,
        chains: Sequence[Sequence[tuple[int, Outgoing]]],
        sent: list[bool],
        refused: dict[int, Exception],
    ) -> bool:
        messages = [pair for chain in chains for pair in chain]
        if not messages:
            return True
        try:
            answers = await publisher.send_together([message for _, message in messages])
        except Exception as error:
            if publisher.refuses(error):
                return False  # One of them; singly it is seen which.
            raise _Down from error
        if answers is None:
            return False
        for (number, _), answer in zip(messages, answers, strict=True):
            if answer is None:
                sent[number] = True
            elif publisher.refuses(answer):
                refused[number] = answer
            else:
                raise _Down from answer
        return True

    async def _send_singly(
        self,
        publisher: Publisher,
        chains: deque[list[tuple[int, Outgoing]]],
        sent: list[bool],
        refused: dict[int, Exception],
    ) -> None:
        async def work() -> None:
            while chains:
                for number, message in chains.popleft():
                    try:
                        await publisher.send(message)
                    except Exception as error:
                        if not publisher.refuses(error):
                            raise _Down from error
                        refused[number] = error
                        break  # What is behind it in its key waits for it.
                    sent[number] = True

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_AT_ONCE, len(chains))):
                    group.create_task(work())
        except* _Down as downs:
            first: BaseException = downs
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from first.__cause__

    async def _connected(self) -> Publisher:
        async with self._connecting:
            if self._publisher is not None:
                return self._publisher
            publisher = self._make()
            self._closing.add(publisher)
            try:
                # Twice: clients have a timeout of their own, whose errors say more.
                async with asyncio.timeout(2 * self._timeout):
                    await publisher.connect()
            except ConfigurationError:
                await self._drop(publisher)
                raise
            except Exception as error:
                await self._drop(publisher)
                if publisher.is_forbidden(error):
                    raise ConfigurationError(f"{self._address} refuses its user or password") from None
                raise self._unavailable(error) from None
            self._publisher = publisher
            return publisher

    async def _drop(self, publisher: Publisher | None) -> None:
        """Close a connection, whatever state it is in."""
        if publisher is None:
            return
        if self._publisher is publisher:
            self._publisher = None
            self._closing.add(publisher)
        with suppress(Exception):
            async with asyncio.timeout(2 * self._timeout):
                await publisher.close()
        self._closing.discard(publisher)

    def _remember(self, events: Sequence[Event], sent: Sequence[bool]) -> None:
        for event, was_sent in zip(events, sent, strict=True):
            if was_sent:
                self._confirmed[event.id] = None
        while len(self._confirmed) > _REMEMBERED:
            self._confirmed.popitem(last=False)

    def _unavailable(self, error: BaseException) -> TargetUnavailableError:
        if isinstance(error, TargetUnavailableError):
            return error
        # Not chained by its callers: a driver's message and its traceback may hold the password.
        return TargetUnavailableError(f"{self._address} takes no events at the moment: {self._in_words(error)}")

    def _in_words(self, error: BaseException) -> str:
        if isinstance(error, UndeliverableEventError):
            return str(error)
        return self._address.scrub(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
