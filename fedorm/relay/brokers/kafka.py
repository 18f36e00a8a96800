"""Kafka: an event's key is its partition key, and so the order within it is kept in the topic."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from aiokafka.errors import (
    InvalidTopicError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)
from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext

from fedorm.relay.brokers.base import Outgoing, Publisher, UndeliverableEventError, check_pattern

_TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")


class KafkaPublisher(Publisher):
    """Sends to topics with ``acks="all"``; a URL is ``kafka://host:port,host:port``, or ``kafkas://`` for TLS."""

    kind = "Kafka"
    schemes = ("kafka", "kafkas")
    extra = "kafka"
    attribute_prefix = "ce_"
    ascii_only = False

    async def connect(self) -> None:
        """Connect; what cannot be reached is not handed to the client, which would leave parts of itself open."""
        if self.address.is_url:
            await _reach(self._servers)
        await super().connect()

    def make(self, url: str) -> Any:
        """Return a broker that gives up after ``timeout``; a user in the URL logs in by SASL PLAIN.

        Its producer is not Kafka's idempotent one, which never gives up a message: an event that is sent twice is
        known by its id.
        """
        scheme = url.partition("://")[0]
        user = self.address.user
        security: BaseSecurity | None = BaseSecurity(use_ssl=True) if scheme == "kafkas" else None
        if user is not None:
            security = SASLPlaintext(*user, use_ssl=scheme == "kafkas")
        return KafkaBroker(
            self._servers,
            acks="all",
            request_timeout_ms=int(self.timeout * 1000),
            security=security,
            logger=None,
        )

    @property
    def _servers(self) -> list[str]:
        """``host:port`` of each server."""
        places = [url.partition("://")[2].rpartition("@")[2].partition("/")[0] for url in self.address.urls]
        return [server for place in places for server in place.split(",")]

    async def send(self, message: Outgoing) -> None:
        """Produce and wait until all replicas in sync have it."""
        # Not with the event's own time: a topic's retention counts from there, and an event may be old.
        await self.broker.publish(
            message.body,
            message.subject,
            key=message.event.key.encode(),
            headers=message.headers,
            correlation_id=str(message.event.id),
        )

    def refuses(self, error: Exception) -> bool:
        """Too large, or a topic that cannot be or is not allowed."""
        return isinstance(
            error,
            UndeliverableEventError
            | InvalidTopicError
            | MessageSizeTooLargeError
            | RecordListTooLargeError
            | TopicAuthorizationFailedError,
        )

    def is_forbidden(self, error: Exception) -> bool:
        """SASL's refusal."""
        return isinstance(error, SaslAuthenticationFailed)

    def check(self, subject: str) -> None:
        """Letters, digits, dots, dashes and underscores, 249 at most."""
        check_pattern(_TOPIC, subject, self.kind, "topic")


async def _reach(servers: Sequence[str]) -> None:
    """Raise the last one's error unless one of the servers takes a connection."""
    failed: Exception | None = None
    for server in servers:
        host, _, port = server.rpartition(":") if re.search(r":\d+$", server) else (server, "", "9092")
        try:
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError as error:
            failed = error
        else:
            writer.close()
            return
    if failed is not None:
        raise failed
