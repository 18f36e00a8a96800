"""What a database has for copies of another one's tables: writes past foreign keys, and keys that go on from there."""

from __future__ import annotations

from typing import Any

from sqlalchemy import DDL, BigInteger, Column, Connection, Function, cast, column, func, literal, select, table, text
from sqlalchemy.dialects.postgresql import REGCLASS
from sqlalchemy.exc import DBAPIError

from fedorm.exc import UnsupportedOperationError
from fedorm.stores.findings import Finding

_DENIED = "42501"
"""PostgreSQL's state of an error of privileges."""


class Replicating:
    """The part of a SQL store that has to do with copies. SQLite and ClickHouse keep no account of keys."""

    def begin_as_replica(self, connection: Connection) -> None:
        """Let the transaction that has begun write what has been checked where it comes from, in whichever order."""

    def end_as_replica(self, connection: Connection) -> None:
        """Let the connection, whose transaction has ended, be as it was."""

    def replica_findings(self, connection: Connection) -> list[Finding]:
        """Try ``begin_as_replica`` in a transaction that is to be undone, and return what stands against it."""
        return []

    def generated_up_to(self, connection: Connection, key: Column[Any]) -> int | None:
        """Return the last value that the database has given to a column; None where it has, or knows of, none."""
        return None

    def generate_beyond(self, connection: Connection, key: Column[Any], value: int) -> None:
        """Let the next value that the database gives to a column be greater than ``value``."""


class ReplicatingPostgreSQL(Replicating):
    """As its own logical replication does. A sequence takes no notice of values that were inserted."""

    def begin_as_replica(self, connection: Connection) -> None:
        """Leave out triggers, and with them the checks of foreign keys.

        Raises ``UnsupportedOperationError`` for a user who may not.
        """
        try:
            connection.execute(select(func.set_config("session_replication_role", "replica", True)))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _DENIED:
                raise
            store: Any = self  # The one that this is a part of.
            raise store.error(UnsupportedOperationError, str(self._denied(connection))) from error

    def replica_findings(self, connection: Connection) -> list[Finding]:
        """Say that the user may not, and who can let it."""
        try:
            self.begin_as_replica(connection)
        except UnsupportedOperationError:
            return [self._denied(connection)]
        return []

    def _denied(self, connection: Connection) -> Finding:
        store: Any = self
        user = connection.dialect.identifier_preparer.quote(store.url.username or "...")
        return Finding(
            f"the user {user} may not write past foreign keys, as_replica",
            f"let a superuser run  GRANT SET ON PARAMETER session_replication_role TO {user},  or, before "
            "PostgreSQL 15, be one",
            "privilege",
        )

    def generated_up_to(self, connection: Connection, key: Column[Any]) -> int | None:
        """Ask the sequence that the column owns."""
        found: int | None = connection.scalar(select(func.pg_sequence_last_value(_sequence(connection, key))))
        return found

    def generate_beyond(self, connection: Connection, key: Column[Any], value: int) -> None:
        """Set the sequence that the column owns."""
        connection.execute(select(func.setval(_sequence(connection, key), literal(value, BigInteger()))))


def _sequence(connection: Connection, key: Column[Any]) -> Any:
    name = connection.dialect.identifier_preparer.format_table(key.table)
    owned: Function[Any] = func.pg_get_serial_sequence(name, key.name)
    return cast(owned, REGCLASS)  # NULL where there is none: then the functions do nothing.


class ReplicatingMySQL(Replicating):
    """MySQL's and MariaDB's foreign keys, and their tables' counters, which values that are inserted push on."""

    def begin_as_replica(self, connection: Connection) -> None:
        """Leave out the checks of foreign keys."""
        connection.execute(text("SET SESSION foreign_key_checks = 0"))

    def end_as_replica(self, connection: Connection) -> None:
        """Check them again."""
        connection.execute(text("SET SESSION foreign_key_checks = 1"))

    def generated_up_to(self, connection: Connection, key: Column[Any]) -> int | None:
        """Ask for the table's counter, which is that of the next value."""
        if not getattr(connection.dialect, "is_mariadb", False):
            # MySQL answers with what it knew a day ago.
            connection.execute(text("SET SESSION information_schema_stats_expiry = 0"))
        tables = table("tables", *map(column, _COLUMNS), schema="information_schema")
        schema, name, counter = (tables.c[one] for one in _COLUMNS)
        here = schema == (key.table.schema or func.database())
        following = connection.scalar(select(counter).where(here, name == key.table.name))
        return None if following is None or following < 2 else int(following) - 1

    def generate_beyond(self, connection: Connection, key: Column[Any], value: int) -> None:
        """Set the table's counter."""
        statement = "ALTER TABLE %(fullname)s AUTO_INCREMENT = %(next)s"
        beyond = DDL(statement, context={"next": value + 1})  # type: ignore[no-untyped-call]
        connection.execute(beyond.against(key.table))


_COLUMNS = ("table_schema", "table_name", "auto_increment")
