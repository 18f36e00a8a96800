"""Events as they are read from an outbox."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from fedorm.outbox.events import Event


def event_of(service: str, row: Sequence[Any]) -> Event:
    """Return the event of a row: ``position``, ``id``, ``type``, ``key``, ``data``, ``at``."""
    return Event(row[2], key=row[3], data=row[4], id=row[1], at=_utc(row[5]), service=service)


def event_of_document(service: str, document: Mapping[str, Any]) -> Event:
    """Return the event of a document with the same fields."""
    at = _utc(document["at"])
    return Event(
        document["type"], key=document["key"], data=document["data"], id=document["id"], at=at, service=service
    )


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
