"""The tables of the outbox and of the inbox in a service's own database."""

from __future__ import annotations

import enum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Computed,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    column,
    literal_column,
)
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from fedorm.bookkeeping import own_table
from fedorm.outbox.waking import wake_with

PARTITIONS = 64
"""Events of one key are in one partition, and a partition is handed on by one relay at a time, in order."""

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up an INTEGER alone.
_JSONB = postgresql.JSONB()
_JSONB.astext_type = None  # type: ignore[assignment] # Else its repr, for Alembic, says Text(), which no revision imports.
_JSON = JSON().with_variant(_JSONB, "postgresql")
_MOMENT = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


class utc_now(FunctionElement[Any]):  # noqa: N801 - it stands where functions of SQL stand
    """The server's own clock, in UTC and to the microsecond."""

    inherit_cache = True


@compiles(utc_now)
def _now(element: Any, compiler: Any, **options: Any) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(utc_now, "postgresql")
def _now_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return "clock_timestamp()"


@compiles(utc_now, "mysql")
@compiles(utc_now, "mariadb")
def _now_mysql(element: Any, compiler: Any, **options: Any) -> str:
    return "(UTC_TIMESTAMP(6))"


class partition_of(FunctionElement[Any]):  # noqa: N801
    """The partition of an ordering key, computed by the database, whoever has written the event.

    A SQLite file has one relay at work at a time, and a single partition.
    """

    inherit_cache = True


@compiles(partition_of)
def _single_partition(element: Any, compiler: Any, **options: Any) -> str:
    return "0"


@compiles(partition_of, "postgresql")
def _partition_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    # As the server writes it down itself: Alembic compares the two.
    return f"hashtext(({compiler.process(element.clauses, **options)})::text) & {PARTITIONS - 1}"


@compiles(partition_of, "mysql")
@compiles(partition_of, "mariadb")
def _partition_mysql(element: Any, compiler: Any, **options: Any) -> str:
    return f"crc32({compiler.process(element.clauses, **options)}) & {PARTITIONS - 1}"


class State(enum.IntEnum):
    """How far an event has come; a row in ``fedorm_outbox`` begins as ``WAITING``."""

    WAITING = 0
    HELD = 1
    """Some target has not got it yet: which one, and why, is in ``fedorm_outbox_deliveries``."""
    DELIVERED = 2
    """Every target has it, and it is kept for a time."""


@own_table
def fedorm_outbox(metadata: MetaData) -> Table:
    """Return the table of a service's events that were not handed on yet, or are kept for a time afterwards."""
    table = Table(
        "fedorm_outbox",
        metadata,
        Column("position", _NUMBER, primary_key=True, autoincrement=True),
        Column("id", String(36), nullable=False, unique=True),
        Column("type", String(255), nullable=False),
        Column("key", String(255), nullable=False, server_default=""),
        Column("data", _JSON, nullable=False),
        Column("at", _MOMENT, nullable=False, server_default=utc_now()),
        # Nullable for MariaDB, which knows no other computed columns.
        Column("partition", SmallInteger, Computed(partition_of(column("key")), persisted=True)),
        Column("state", SmallInteger, nullable=False, server_default="0"),
        Column("delivered_at", _MOMENT),
        sqlite_autoincrement=True,  # A position is not given twice.
    )
    waiting = table.c.state == literal_column("0")
    Index(
        "ix_fedorm_outbox_waiting",
        *(table.c.state, table.c.partition, table.c.position),
        postgresql_where=waiting,
        sqlite_where=waiting,
    )
    wake_with(table)
    return table


@own_table
def fedorm_outbox_deliveries(metadata: MetaData) -> Table:
    """Return the table of what single targets have not got yet: it is empty where nothing has failed.

    The first event of a key has ``attempts``, ``error`` and ``next_at``, seconds since 1970; those behind it wait. One
    that was put aside has ``failed_at``.
    """
    table = Table(
        "fedorm_outbox_deliveries",
        metadata,
        Column("target", String(191), primary_key=True),
        Column("position", _NUMBER, primary_key=True, autoincrement=False),
        Column("partition", SmallInteger, nullable=False),
        Column("key", String(255), nullable=False),
        Column("attempts", Integer, nullable=False, server_default="0"),
        Column("next_at", Double),
        Column("error", Text),
        Column("failed_at", Double),
    )
    Index("ix_fedorm_outbox_deliveries_position", table.c.position)
    Index("ix_fedorm_outbox_deliveries_due", table.c.partition, table.c.next_at)
    return table


@own_table
def fedorm_outbox_partitions(metadata: MetaData) -> Table:
    """Return the table whose rows are locked, or leased by ``owner`` up to ``until``, while events are handed on."""
    return Table(
        "fedorm_outbox_partitions",
        metadata,
        Column("partition", SmallInteger, primary_key=True, autoincrement=False),
        Column("owner", String(64)),
        Column("until", Double, nullable=False, server_default="0"),
    )


@own_table
def fedorm_inbox(metadata: MetaData) -> Table:
    """Return the table of the events whose effect a handler's service holds already."""
    table = Table(
        "fedorm_inbox",
        metadata,
        Column("handler", String(191), primary_key=True),
        Column("id", String(36), primary_key=True),
        Column("at", _MOMENT, nullable=False, server_default=utc_now()),
    )
    Index("ix_fedorm_inbox_at", table.c.at)
    return table
