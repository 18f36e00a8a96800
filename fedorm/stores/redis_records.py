"""``FederatedRecord``: a pydantic model kept in Redis under ``name:id``, as a hash or as a JSON text."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar

from pydantic import BaseModel

from fedorm.exc import ModelError
from fedorm.stores.base import collection_name
from fedorm.stores.entity import Entity, EntityMeta

TTL = "_federated_ttl"
"""The key in a record's ``__dict__`` of how long it is to live from its next write on, in milliseconds; 0: for ever."""
Duration = float | datetime.timedelta
_LONGEST = 1e12
"""Seconds that Redis takes: it refuses more in the middle of a transaction, of which the rest is then done."""


class FederatedRecord(Entity, BaseModel, metaclass=EntityMeta):
    """The base of every record; ``__service__`` names the owner, and ``Settings`` says how it is kept.

    ``name`` stands before the keys, ``cart:7``; the class's name by default. ``format`` is ``"hash"``, one field of the
    hash for each of the class, or ``"json"``. ``ttl`` is how many seconds, or a ``timedelta``, a record lives that was
    added; a change leaves it what is left of that, or with ``ttl_renews`` begins it anew.
    """

    __abstract__: ClassVar[bool] = True
    __until_written__: ClassVar[tuple[str, ...]] = (TTL,)

    def expire_in(self, ttl: Duration | None) -> None:
        """Let this record live so many seconds from its next write on, whatever its class says; None: for ever."""
        self.__dict__[TTL] = 0 if ttl is None else milliseconds(ttl, "expire_in()")
        self.__dict__["_federated_touched"] = True

    @classmethod
    def _entity_finish(cls) -> None:
        """Check the settings."""
        settings = getattr(cls, "Settings", None)
        kept = getattr(settings, "format", "hash")
        if kept not in ("hash", "json"):
            raise ModelError(f'{cls.__name__}.Settings.format = {kept!r}: write "hash" or "json"')
        ttl = getattr(settings, "ttl", None)
        if ttl is not None:
            milliseconds(ttl, f"{cls.__name__}.Settings.ttl")
        if ":" in collection_name(cls):
            raise ModelError(f"{cls.__name__}.Settings.name = {collection_name(cls)!r}: a colon ends it in each key")


def milliseconds(ttl: Any, what: str) -> int:
    """Return a time to live in milliseconds. Raises ``ModelError`` for none."""
    seconds = ttl.total_seconds() if isinstance(ttl, datetime.timedelta) else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.001 <= seconds <= _LONGEST:
        raise ModelError(f"{what}: {ttl!r} is no time to live: seconds, or a timedelta, greater than 0")
    return int(seconds * 1000)
