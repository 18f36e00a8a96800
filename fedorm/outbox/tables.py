"""The tables of the outbox and of the inbox in a service's own database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, DateTime, Index, Integer, MetaData, String, Table, Text, func
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from fedorm.bookkeeping import own_table

PARTITIONS = 64
"""Events of one key are in one partition, and a partition is handed on by one relay at a time, in order."""

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up an INTEGER alone.
_JSON = JSON().with_variant(postgresql.JSONB, "postgresql")
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
        Column("delivered_at", _MOMENT),
        Column("attempts", Integer, nullable=False, server_default="0"),
        Column("error", Text),
    )
    Index("ix_fedorm_outbox_delivered_at", table.c.delivered_at)
    return table


@own_table
def fedorm_inbox(metadata: MetaData) -> Table:
    """Return the table of the events whose effect a handler's service holds already."""
    return Table(
        "fedorm_inbox",
        metadata,
        Column("handler", String(255), primary_key=True),
        Column("id", String(36), primary_key=True),
        Column("at", _MOMENT, nullable=False, server_default=func.now()),
    )
