"""The other side of a broker: what a FastStream subscriber gets is handed to handlers, whose effect comes once."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from fedorm.relay.cloudevents import Message, received
from fedorm.relay.handlers import Handler
from fedorm.relay.matching import Types

if TYPE_CHECKING:
    from fedorm.federation import Federation
    from fedorm.outbox.events import Event


class Consumer:
    """Gives messages to those of ``handlers`` whose types match, each in its transaction, with its inbox.

    A message that comes twice, as brokers may send it, has its effect once. Entered as a context manager, it makes
    the handlers' inboxes::

        async with Consumer(fed, charge) as consumer:
            @broker.subscriber("shop.orders", stream="SHOP")
            async def on_order(message: NatsMessage) -> None:
                await consumer.take(message)
    """

    def __init__(self, federation: Federation, *handlers: Handler) -> None:
        self._federation = federation
        self._handlers = [(Types(handler.types), handler) for handler in handlers]

    async def take(self, message: Message) -> Event:
        """Hand a CloudEvent on and return it; after an error the broker is to send it again.

        Raises ``NotACloudEventError`` for another message.
        """
        event = received(message)
        for types, handler in self._handlers:
            if types.match(event.type):
                await handler.deliver([event])
        return event

    async def __aenter__(self) -> Self:
        try:
            for _, handler in self._handlers:
                await handler.open(self._federation)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        for _, handler in self._handlers:
            await handler.close()
