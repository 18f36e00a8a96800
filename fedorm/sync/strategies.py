"""When and how a rule hears of changes: in batches, in real time, by events, or from the database's log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from fedorm.sync.errors import SyncRuleError


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Compare source and target every so many seconds, or with ``every=None`` only when asked to by a backfill.

    Rows are read in pages of ``page``, by their keys, and nothing is held open between two pages. Where the database
    can say which rows were written since the last time (PostgreSQL), no others are read; elsewhere ``changed`` may name
    a column that holds when its row was last changed, and is indexed. Its values may be up to ``overlap`` seconds
    older than the start of the transaction that writes them. Without either, all rows are compared each time.
    ``detect_deletes`` compares the keys of both sides, too.
    """

    name: ClassVar[str] = "batch"
    every: float | None = 3600.0
    page: int = 2_000
    changed: str | None = None
    overlap: float = 60.0
    detect_deletes: bool = True

    def __post_init__(self) -> None:
        _check(self, positive=("page",), seconds=("every", "overlap"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RealTime:
    """Read what has changed as soon as the database tells, or every ``poll`` seconds where it does not tell.

    It is read as ``Batch`` does. PostgreSQL tells by a trigger that is put on the table, unless ``notify`` is False;
    then ``poll`` is only what is waited for if no word comes. Keys of both sides are compared every
    ``detect_deletes`` seconds; None: never.
    """

    name: ClassVar[str] = "real-time"
    poll: float = 1.0
    page: int = 2_000
    changed: str | None = None
    overlap: float = 60.0
    detect_deletes: float | None = 60.0
    notify: bool = True

    def __post_init__(self) -> None:
        _check(self, positive=("page",), seconds=("poll", "overlap", "detect_deletes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDriven:
    """Follow the events that sessions write into the source's outbox, in the transaction of each change.

    Changes that pass the session by, of other programs for example, need ``by="triggers"`` and a migration that makes
    those. A first snapshot is made as for ``CDC``.
    """

    name: ClassVar[str] = "event-driven"
    by: str = "session"
    page: int = 2_000

    def __post_init__(self) -> None:
        _check(self, positive=("page",), seconds=())
        if self.by not in ("session", "triggers"):
            raise SyncRuleError(f"EventDriven(by={self.by!r}): events are written by 'session' or by 'triggers'")


@dataclass(frozen=True, slots=True, kw_only=True)
class CDC:
    """Read the database's own log: of PostgreSQL, MySQL or MariaDB, MongoDB.

    A first ``snapshot`` is read in pages of ``page``, while writers go on. ``batch`` is how many changes are written
    together at most, when there are many. If the log does not reach back far enough any more, the rule stops and says
    so, or with ``resnapshot`` begins with a new snapshot. ``most_retained`` is how many bytes of its log PostgreSQL may
    have to keep for this rule: at more it is given up, by whatever process carries out rules, as if it did not reach
    back far enough. Without it nothing is given up, and the disk may fill.

    ``through`` names a stream of a message broker that the changes go through, as far as ``partitions`` can be written
    at once: ``fed.sync.publish()`` reads, and any number of ``fed.sync.apply()`` write.
    """

    name: ClassVar[str] = "cdc"
    page: int = 5_000
    batch: int = 5_000
    snapshot: bool = True
    resnapshot: bool = False
    most_retained: int | None = None
    through: str | None = None
    partitions: int = 8

    def __post_init__(self) -> None:
        _check(self, positive=("page", "batch", "most_retained", "partitions"), seconds=())
        if self.through is not None and not re.fullmatch("[A-Za-z0-9_-]{1,50}", self.through):
            raise SyncRuleError(f"CDC(through={self.through!r}): up to 50 letters, digits, dashes and underscores")


Strategy = Batch | RealTime | EventDriven | CDC
Polling = Batch | RealTime


def _check(strategy: object, *, positive: tuple[str, ...], seconds: tuple[str, ...]) -> None:
    kind = type(strategy).__name__
    for name in positive:
        value = getattr(strategy, name)
        if value is not None and value < 1:
            raise SyncRuleError(f"{kind}({name}={value!r}): at least 1")
    for name in seconds:
        value = getattr(strategy, name)
        if value is not None and value < 0:
            raise SyncRuleError(f"{kind}({name}={value!r}): seconds, not less than 0")
