"""fedorm's own tables for rules: who carries one out and how it does, how far it has come, what it could not sync."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects import mysql

from fedorm.bookkeeping import own_table

NAME = 191
"""How long a rule's name may be, as a key."""
_TEXT = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")


@own_table
def fedorm_sync_rules(metadata: MetaData) -> Table:
    """Return the table of the rules that a service keeps account of; moments are seconds since 1970.

    ``owner`` carries the rule out up to ``until``; ``epoch`` is counted up with each new owner.
    """
    return Table(
        "fedorm_sync_rules",
        metadata,
        Column("rule", String(NAME), primary_key=True),
        Column("owner", String(64)),
        Column("until", Double, nullable=False, server_default="0"),
        Column("epoch", BigInteger, nullable=False, server_default="0"),
        Column("paused", Boolean, nullable=False, server_default="0"),
        Column("state", String(20), nullable=False, server_default="new"),
        Column("position", _TEXT),
        Column("synced", BigInteger, nullable=False, server_default="0"),
        Column("deleted", BigInteger, nullable=False, server_default="0"),
        Column("errors", BigInteger, nullable=False, server_default="0"),
        Column("last_sync_at", Double),
        Column("last_error", _TEXT),
        Column("lag_seconds", Double),
        Column("lag_rows", BigInteger),
    )


@own_table
def fedorm_sync_positions(metadata: MetaData) -> Table:
    """Return the table of how far rules have come: in the target's service where that has transactions."""
    return Table(
        "fedorm_sync_positions",
        metadata,
        Column("rule", String(NAME), primary_key=True),
        Column("position", _TEXT, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("saved_at", Double, nullable=False),
    )


@own_table
def fedorm_sync_dead_letters(metadata: MetaData) -> Table:
    """Return the table of rows that could not be synced, each once; ``id`` is a digest of rule and key."""
    return Table(
        "fedorm_sync_dead_letters",
        metadata,
        Column("id", String(32), primary_key=True),
        Column("rule", String(NAME), nullable=False, index=True),
        Column("key", _TEXT, nullable=False),
        Column("row", _TEXT),
        Column("error", _TEXT, nullable=False),
        Column("attempts", Integer, nullable=False, server_default="1"),
        Column("at", Double, nullable=False),
    )
