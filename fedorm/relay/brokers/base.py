"""What a kind of broker has to be able to do: connect, send one event and wait until it is kept, let go."""

from __future__ import annotations

import re
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedorm.exc import ConfigurationError, FedormError
from fedorm.relay import cloudevents
from fedorm.relay.brokers.address import Address

if TYPE_CHECKING:
    from fedorm.outbox.events import Event

Mode = Literal["binary", "structured"]
Subject = str | Callable[["Event"], str]
_FIELDS = ("type", "service", "key")


class UndeliverableEventError(FedormError):
    """A broker does not take this event, and would not later."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event as it is sent: ``subject`` is where to, a NATS subject, a topic, a stream or a routing key."""

    event: Event
    subject: str
    body: bytes
    headers: dict[str, str]
    content_type: str


class Publisher(ABC):
    """Sends events to one kind of broker over FastStream.

    ``attribute_prefix`` stands before an attribute's name in the headers of the binary mode; ``ascii_only``: header
    values are percent-encoded.
    """

    kind: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]
    attribute_prefix: ClassVar[str] = "ce-"
    ascii_only: ClassVar[bool] = True

    def __init__(self, address: Address, timeout: float) -> None:
        self.address, self.timeout = address, timeout
        self._broker: Any = None
        self._is_mine = False

    @property
    def broker(self) -> Any:
        """The broker object in use."""
        return self._broker

    async def connect(self) -> None:
        """Connect; a broker object that runs already is used as it is."""
        self._broker = self.make(self.address.given) if self.address.is_url else self.address.given
        self._is_mine = not self._broker.running
        if self._is_mine:
            await self._broker.connect()
        await self.prepare()

    async def close(self) -> None:
        """Disconnect what ``connect()`` has connected."""
        if self._is_mine and self._broker is not None:
            await self._broker.stop()

    @abstractmethod
    def make(self, url: str) -> Any:
        """Return FastStream's broker for a URL."""

    async def prepare(self) -> None:
        """See that what events are sent to is there."""
        return

    @abstractmethod
    async def send(self, message: Outgoing) -> None:
        """Send one event; return when the broker keeps it."""

    async def send_together(self, messages: Sequence[Outgoing]) -> list[Exception | None] | None:
        """Send events in one go and return what became of each; None: this broker has no such way."""
        return None

    @abstractmethod
    def refuses(self, error: Exception) -> bool:
        """Say whether an error is about the event, and not about a broker that takes nothing at the moment."""

    def is_forbidden(self, error: Exception) -> bool:
        """Say whether an error is about the user or the password, which no waiting mends."""
        return False

    def check(self, subject: str) -> None:
        """Raise ``UndeliverableEventError`` for a subject that this broker cannot have."""
        if not subject:
            raise UndeliverableEventError(f"an event is to be sent to {self.kind} with an empty subject")

    def outgoing(self, event: Event, subject: str, mode: Mode) -> Outgoing:
        """Return an event as this broker gets it."""
        self.check(subject)
        if mode == "structured":
            content_type = f"{cloudevents.STRUCTURED}; charset=UTF-8"
            return Outgoing(event, subject, cloudevents.structured(event), {"content-type": content_type}, content_type)
        attributes = cloudevents.headers(event, prefix=self.attribute_prefix, ascii_only=self.ascii_only)
        return Outgoing(
            event, subject, cloudevents.data(event), {"content-type": cloudevents.JSON, **attributes}, cloudevents.JSON
        )


def subject_of(given: Subject) -> Callable[[Event], str]:
    """Return what names an event's subject; raises ``ConfigurationError`` for a template with unknown fields."""
    if callable(given):
        return given
    template = given
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise ConfigurationError(f"subject {template!r} is no template: {error}") from error
    if unknown := [field for field in fields if field not in _FIELDS]:
        known = ", ".join(f"{{{field}}}" for field in _FIELDS)
        raise ConfigurationError(f"subject {template!r} names {unknown[0]!r}; known are {known}")

    def fill(event: Event) -> str:
        return template.format(type=event.type, service=event.service or "", key=event.key)

    return fill


def check_pattern(pattern: re.Pattern[str], subject: str, kind: str, rule: str) -> None:
    """Raise ``UndeliverableEventError`` for a subject that does not match."""
    if pattern.fullmatch(subject) is None:
        raise UndeliverableEventError(f"{kind} has no {rule} like {subject!r}: change the target's subject=")
