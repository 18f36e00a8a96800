"""NATS: events go into a JetStream stream, which confirms each and knows again by its id one that comes twice."""

from __future__ import annotations

import re
from typing import Any

import nats.errors
from faststream.nats import JStream, NatsBroker
from nats.aio.client import Client
from nats.js.errors import APIError, BadRequestError, NoStreamResponseError, NotFoundError, ServerError

from fedorm.exc import ConfigurationError
from fedorm.relay.brokers.address import Address
from fedorm.relay.brokers.base import Outgoing, Publisher, UndeliverableEventError, check_pattern
from fedorm.relay.targets import TargetUnavailableError

_SUBJECT = re.compile(r"[^\s.*>\x00-\x1f]+(\.[^\s.*>\x00-\x1f]+)*")


class _Broker(NatsBroker):
    """A broker that closes what it has opened when it is not let in."""

    async def _connect(self) -> Client:
        client = Client()
        try:
            await client.connect(**self._connection_kwargs)
        except BaseException:
            await client.close()
            raise
        self.config.connect(client)
        return client


class NATSPublisher(Publisher):
    """Sends to the stream ``stream``; given as a ``JStream`` it is made where it is missing."""

    kind = "NATS"
    schemes = ("nats", "tls")
    extra = "nats"

    def __init__(self, address: Address, timeout: float, *, stream: str | JStream | None = None) -> None:
        super().__init__(address, timeout)
        if stream is None:
            raise ConfigurationError(
                f'{address}: say which JetStream stream keeps the events, as in  stream="SHOP" : '
                f"without one NATS confirms nothing, and events get lost"
            )
        self._declared = None if isinstance(stream, str) else stream
        self._stream = stream if isinstance(stream, str) else stream.name

    def make(self, url: str) -> Any:
        """Return a broker that does not reconnect by itself: it is made anew then."""
        return _Broker(
            self.address.urls,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=max(1, int(self.timeout)),
            drain_timeout=max(1, int(self.timeout)),
            logger=None,
        )

    async def prepare(self) -> None:
        """See that the stream is there."""
        streams = self.broker.connection.jetstream(timeout=self.timeout)
        try:
            await streams.stream_info(self._stream)
        except NotFoundError as error:
            if self._declared is None:
                raise TargetUnavailableError(
                    f"{self.address} has no stream {self._stream!r}: start a subscriber that declares it, "
                    f"or give  stream=JStream(...)"
                ) from error
            await streams.add_stream(config=self._declared.config, subjects=list(self._declared.subjects))

    async def send(self, message: Outgoing) -> None:
        """Publish to the stream and wait for its acknowledgement."""
        await self.broker.publish(
            message.body,
            message.subject,
            headers={**message.headers, "Nats-Msg-Id": str(message.event.id)},
            correlation_id=str(message.event.id),
            stream=self._stream,
            timeout=self.timeout,
        )

    def refuses(self, error: Exception) -> bool:
        """Too large, or a subject that no stream, or another one, listens to."""
        if isinstance(error, APIError):
            return isinstance(error, BadRequestError) or (isinstance(error, ServerError) and error.err_code == 10054)
        return isinstance(
            error,
            UndeliverableEventError
            | NoStreamResponseError
            | nats.errors.MaxPayloadError
            | nats.errors.BadSubjectError
            | nats.errors.BadHeaderError,
        )

    def is_forbidden(self, error: Exception) -> bool:
        """NATS says so in words alone."""
        return "authorization violation" in str(error).lower()

    def check(self, subject: str) -> None:
        """Tokens without spaces and wildcards, with dots between them."""
        check_pattern(_SUBJECT, subject, self.kind, "subject")
