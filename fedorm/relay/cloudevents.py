"""Events as CloudEvents 1.0, in both of its content modes, and back.

The event's id is the CloudEvent's ``id``, the same each time the event is sent: by it consumers know what they have had
before. ``source`` is the service, ``subject`` and the extension ``partitionkey`` are the event's key.
"""

from __future__ import annotations

import base64
import datetime
import json
import uuid
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, unquote

from fedorm.exc import EventError, FedormError
from fedorm.outbox.encoding import encoded
from fedorm.outbox.events import Event

JSON = "application/json"
STRUCTURED = "application/cloudevents+json"
_PREFIXES = ("ce-", "ce_", "cloudevents_", "cloudevents:")
"""Before an attribute's name in a header: in HTTP and NATS, in Kafka, in AMQP."""
_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


class NotACloudEventError(FedormError):
    """A message is not a CloudEvent that an ``Event`` can be made of."""


class Message(Protocol):
    """What is read of a FastStream message."""

    body: Any
    headers: dict[str, Any]
    content_type: str | None


def attributes(event: Event) -> dict[str, str]:
    """Return an event's CloudEvents attributes, its data's type aside."""
    found = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": event.service or "fedorm",
        "type": event.type,
        "subject": event.key,
        "partitionkey": event.key,
    }
    return found if event.at is None else {**found, "time": _rfc3339(event.at)}


def headers(event: Event, *, prefix: str, ascii_only: bool) -> dict[str, str]:
    """Return the attributes as headers for the binary mode; ``ascii_only``: percent-encoded as in HTTP."""
    found = attributes(event)
    return {prefix + name: quote(value, safe=_VISIBLE) if ascii_only else value for name, value in found.items()}


def data(event: Event) -> bytes:
    """Return an event's data as JSON: the body in the binary mode."""
    return _dump(event.data)


def structured(event: Event) -> bytes:
    """Return an event as JSON with everything in it: the body in the structured mode."""
    return _dump({**attributes(event), "datacontenttype": JSON, "data": event.data})


def received(message: Message) -> Event:
    """Return the event of a message from a FastStream subscriber, whichever the broker and the content mode.

    The id of an event that fedorm has not written is made of its source and id, unless it is a UUID.
    Raises ``NotACloudEventError``.
    """
    found = {name.lower(): value for name, value in message.headers.items()}
    content_type = str(message.content_type or found.get("content-type") or "").partition(";")[0].strip().lower()
    if not isinstance(message.body, bytes | bytearray):
        raise NotACloudEventError("this is a batch of messages: subscribe without  batch=True")
    try:
        if content_type == STRUCTURED:
            return _from_structured(json.loads(message.body))
        return _from_binary(found, content_type, bytes(message.body))
    except (KeyError, TypeError, ValueError, AttributeError, EventError) as error:
        raise NotACloudEventError(f"this is no CloudEvent of version 1.0: {type(error).__name__}: {error}") from error


def _from_structured(document: Mapping[str, Any]) -> Event:
    content = document.get("data")
    if "data_base64" in document:
        content = _parsed(base64.b64decode(document["data_base64"]), str(document.get("datacontenttype", JSON)))
    return _event(document, content)


def _from_binary(found: Mapping[str, Any], content_type: str, body: bytes) -> Event:
    given: dict[str, str] = {}
    for name, value in found.items():
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
        if prefix is not None:
            text = value.decode() if isinstance(value, bytes) else str(value)
            given[name.removeprefix(prefix)] = unquote(text) if prefix == "ce-" else text
    if not given:
        raise NotACloudEventError(f"a message of type {content_type or 'unknown'!r} without CloudEvents attributes")
    return _event(given, _parsed(body, content_type or JSON))


def _event(given: Mapping[str, Any], content: Any) -> Event:
    if given["specversion"] != "1.0":
        raise ValueError(f"specversion {given['specversion']!r}")
    source = str(given["source"])
    return Event(
        str(given["type"]),
        key=given.get("partitionkey", given.get("subject")),
        data=content,
        id=_identity(source, str(given["id"])),
        at=datetime.datetime.fromisoformat(given["time"]) if "time" in given else None,
        service=source,
    )


def _identity(source: str, given: str) -> str:
    try:
        return str(uuid.UUID(given))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{source} {given}"))


def _parsed(body: bytes, content_type: str) -> Any:
    if not body:
        return None
    if content_type == JSON or content_type.endswith("+json"):
        return json.loads(body)
    if content_type.startswith("text/"):
        return body.decode()
    return base64.b64encode(body).decode()


def _rfc3339(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=encoded).encode()
