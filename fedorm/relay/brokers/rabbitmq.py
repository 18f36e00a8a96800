"""RabbitMQ: events are persistent messages that the broker confirms, each with the routing key ``subject``."""

from __future__ import annotations

from typing import Any

from aio_pika.exceptions import AuthenticationError, ProbableAuthenticationError
from faststream.rabbit import Channel, RabbitBroker, RabbitExchange
from pamqp.commands import Basic

from fedorm.exc import ConfigurationError
from fedorm.relay.brokers.address import Address
from fedorm.relay.brokers.base import Outgoing, Publisher, UndeliverableEventError

_LONGEST = 255


class RabbitMQPublisher(Publisher):
    """Sends to ``exchange``, by default the one that leads to the queue of the subject's name.

    An event that no queue gets is refused; ``mandatory=False``: it is dropped by the broker.
    """

    kind = "RabbitMQ"
    schemes = ("amqp", "amqps")
    extra = "rabbitmq"
    attribute_prefix = "cloudEvents_"
    ascii_only = False

    def __init__(
        self,
        address: Address,
        timeout: float,
        *,
        exchange: str | RabbitExchange | None = None,
        mandatory: bool = True,
    ) -> None:
        super().__init__(address, timeout)
        self._exchange, self._mandatory = exchange, mandatory

    def make(self, url: str) -> Any:
        """Return a broker with publisher confirms."""
        return RabbitBroker(
            url, timeout=self.timeout, default_channel=Channel(publisher_confirms=True), fail_fast=True, logger=None
        )

    async def prepare(self) -> None:
        """Declare the exchange, where it was given with all that it is."""
        if isinstance(self._exchange, RabbitExchange):
            await self.broker.declare_exchange(self._exchange)

    async def send(self, message: Outgoing) -> None:
        """Publish and wait for the confirm, which comes when the message is on disk in all queues."""
        event = message.event
        answer = await self.broker.publish(
            message.body,
            exchange=self._exchange,
            routing_key=message.subject,
            headers=message.headers,
            content_type=message.content_type,
            message_id=str(event.id),
            correlation_id=str(event.id),
            message_type=event.type,
            timestamp=event.at,
            persist=True,
            mandatory=self._mandatory,
            timeout=self.timeout,
        )
        if answer is None:
            raise ConfigurationError(f"{self.address}: its channel needs  publisher_confirms=True")
        if not isinstance(answer, Basic.Ack):
            raise UndeliverableEventError(
                f"no queue gets what is sent with routing key {message.subject!r}: bind one, "
                f"or change the target's subject= or exchange="
            )

    def refuses(self, error: Exception) -> bool:
        """No queue, or no such routing key."""
        return isinstance(error, UndeliverableEventError)

    def is_forbidden(self, error: Exception) -> bool:
        """A wrong user or password."""
        return isinstance(error, AuthenticationError | ProbableAuthenticationError)

    def check(self, subject: str) -> None:
        """At most 255 bytes."""
        super().check(subject)
        if len(subject.encode()) > _LONGEST:
            raise UndeliverableEventError(f"RabbitMQ has no routing keys longer than {_LONGEST} bytes: {subject!r}")
