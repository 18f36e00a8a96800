"""What a transaction over several services, and each service's part in it, is called in the databases."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Self

PREFIX = "fedorm"
FORMAT = 0x6664726D
"""The ``formatID`` of our XA ids: "fdrm"; others' differ."""

_ID = re.compile(r"[0-9a-f]{32}")
_LOG = re.compile(r"[0-9a-f]{12}")
_NAME = 31
"""How many bytes a service's name may take: two of them and a colon fit into the 64 of an XA branch qualifier."""


@dataclass(slots=True)
class Branch:
    """One service's part of a transaction over several.

    ``id`` is the transaction's: 12 digits for the milliseconds since 1970 at its start, 20 at random. ``decider`` is
    the service that keeps the decision, and ``log`` the token of its decision log, by which a branch is told from one
    of another application on the same server. Both may be set up to the moment at which the database is told.
    """

    id: str
    service: str
    decider: str = ""
    log: str = ""

    @property
    def started(self) -> datetime:
        """When the transaction began, by the clock of the machine that began it."""
        return datetime.fromtimestamp(int(self.id[:12], 16) / 1000, UTC)

    @property
    def gtrid(self) -> str:
        """The first part of an XA id: 52 bytes."""
        return f"{PREFIX}:{self.log}:{self.id}"

    @property
    def bqual(self) -> str:
        """The second part of an XA id: at most 63 bytes."""
        return f"{short(self.decider)}:{short(self.service)}"

    @property
    def gid(self) -> str:
        """The name of a prepared transaction in PostgreSQL: at most 116 bytes."""
        return f"{self.gtrid}:{self.bqual}"

    @classmethod
    def parse(cls, gid: str) -> Self | None:
        """Return the branch of a name, with services' names as ``short`` made them; None for somebody else's."""
        parts = gid.split(":")
        if len(parts) != 5 or parts[0] != PREFIX or not _LOG.fullmatch(parts[1]) or not _ID.fullmatch(parts[2]):
            return None
        _, log, number, decider, service = parts
        return cls(number, service, decider, log)


def new_id() -> str:
    """Return an id for a transaction; ids sort by the time at which they were made."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def first_id(since: datetime) -> str:
    """Return what sorts before the ids of all transactions that began at a moment or later, and after the others'."""
    return f"{max(0, int(since.timestamp() * 1000)):012x}"


def new_log() -> str:
    """Return a token for a decision log."""
    return secrets.token_hex(6)


def short(service: str) -> str:
    """Return a service's name in at most 31 bytes of ASCII: itself, or its start and a digest of it."""
    if service.isascii() and len(service) <= _NAME:
        return service
    start = "".join(letter for letter in service if letter.isascii())[:20]
    return f"{start}~{sha256(service.encode()).hexdigest()[:10]}"
