"""The keys that a database gives out itself: up to which it has, and from which on it shall."""

from __future__ import annotations

from typing import Any

from sqlalchemy import DDL, Column, Connection, Function, cast, column, func, select, table, text
from sqlalchemy.dialects.postgresql import REGCLASS


class Generating:
    """The part of a SQL store that has to do with such keys. SQLite and ClickHouse keep no account of them."""

    def generated_up_to(self, connection: Connection, key: Column[Any]) -> int | None:
        """Return the last value that the database has given to a column; None where it has, or knows of, none."""
        return None

    def generate_beyond(self, connection: Connection, key: Column[Any], value: int) -> None:
        """Let the next value that the database gives to a column be greater than ``value``."""


class SequenceKeys(Generating):
    """PostgreSQL's: of a sequence, which takes no notice of values that were inserted."""

    def generated_up_to(self, connection: Connection, key: Column[Any]) -> int | None:
        """Ask the sequence that the column owns."""
        found: int | None = connection.scalar(select(func.pg_sequence_last_value(_sequence(connection, key))))
        return found

    def generate_beyond(self, connection: Connection, key: Column[Any], value: int) -> None:
        """Set the sequence that the column owns."""
        connection.execute(select(func.setval(_sequence(connection, key), value)))


def _sequence(connection: Connection, key: Column[Any]) -> Any:
    name = connection.dialect.identifier_preparer.format_table(key.table)
    owned: Function[Any] = func.pg_get_serial_sequence(name, key.name)
    return cast(owned, REGCLASS)  # NULL where there is none: then the functions do nothing.


class CountedKeys(Generating):
    """MySQL's and MariaDB's: of a counter, which values that are inserted push on."""

    def generated_up_to(self, connection: Connection, key: Column[Any]) -> int | None:
        """Ask for the table's counter, which is that of the next value."""
        if not getattr(connection.dialect, "is_mariadb", False):
            # MySQL answers with what it knew a day ago.
            connection.execute(text("SET SESSION information_schema_stats_expiry = 0"))
        tables = table("tables", *map(column, _COLUMNS), schema="information_schema")
        schema, name, counter = (tables.c[one] for one in _COLUMNS)
        here = schema == (key.table.schema or func.database())
        following = connection.scalar(select(counter).where(here, name == key.table.name))
        return None if following is None else int(following) - 1

    def generate_beyond(self, connection: Connection, key: Column[Any], value: int) -> None:
        """Set the table's counter."""
        beyond = DDL("ALTER TABLE %(fullname)s AUTO_INCREMENT = %(next)s", context={"next": value + 1})
        connection.execute(beyond.against(key.table))


_COLUMNS = ("table_schema", "table_name", "auto_increment")
