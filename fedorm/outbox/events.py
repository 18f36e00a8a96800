"""An event: what has happened, under which key, as it is written to an outbox and handed on from there."""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from fedorm.exc import EventError
from fedorm.outbox.encoding import key_text

_LONGEST = 255
"""Of a type and of a key, in characters: as long as the columns of the outbox are."""


def new_id() -> str:
    """Return a UUID of version 7: those that are made later sort behind, so that indexes of ids grow at their end."""
    bits = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    text = f"{bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@dataclass(frozen=True, slots=True)
class Event:
    """What has happened. Events with one ``key`` are handed on in the order they were written in.

    ``key`` may be any value that a primary key may have, or a tuple of such, and is kept as a text; an event without
    one has its ``id`` there, and so is ordered with no other. ``data`` may hold whatever JSON can say, and dates,
    decimals, UUIDs, bytes, enums and pydantic models, which become texts and objects. ``at`` and ``service`` are known
    of an event that was read from an outbox. Raises ``EventError`` for a type or key that is missing or too long.
    """

    type: str
    key: Any = field(default=None, kw_only=True)
    data: Any = field(default=None, kw_only=True)
    id: str = field(default_factory=new_id, kw_only=True)
    at: datetime.datetime | None = field(default=None, kw_only=True)
    service: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if type(self.key) is not str or not self.key:
            object.__setattr__(self, "key", key_text(self.key) or self.id)
        if not self.type or len(self.type) > _LONGEST:
            raise EventError(f"the type of an event has 1 to {_LONGEST} characters, not {len(self.type)}")
        if len(self.key) > _LONGEST:
            raise EventError(f"event {self.type!r}: its key has {len(self.key)} characters, of {_LONGEST} that it may")

    @classmethod
    def of(cls, what: Event | BaseModel, *, type: str | None = None, key: Any = None) -> Event:
        """Return an event of a pydantic model, from which it can be made again: ``OrderPlaced(**event.data)``.

        Its type is the model's ``__event_type__``, else the name of its class; its key the value of the field that
        ``__event_key__`` names, if it does. ``type`` and ``key`` go before.
        """
        if isinstance(what, Event):
            if type is None and key is None:
                return what
            return cls(type or what.type, key=what.key if key is None else key, data=what.data, id=what.id)
        if not isinstance(what, BaseModel):
            raise EventError(f"an event is an Event or a pydantic model, not {what!r}")
        model = what.__class__
        if key is None and (named := getattr(model, "__event_key__", None)) is not None:
            key = getattr(what, named)
        kind = type or getattr(model, "__event_type__", None) or model.__name__
        return cls(kind, key=key, data=what.model_dump(mode="json", by_alias=True))
