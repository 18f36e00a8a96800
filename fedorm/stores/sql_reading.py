"""What a SQL database can be asked for look-ups by keys, and for a select over several services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, Engine, TextClause, bindparam, tuple_
from sqlalchemy.types import TypeEngine

from fedorm.stores.base import Store
from fedorm.stores.scanning import Scanner


class SQLReading(Store):
    """The conditions for keys, the queries for the server's own statistics, and whether others may read beside.

    A database that has more than SQL's common words overrides what it does better.
    """

    def key_filter(self, columns: Sequence[ColumnElement[Any]], keys: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
        """Return the condition that ``columns`` equal one of ``keys``; the keys are bound values.

        ``keys`` are tuples as long as ``columns``, at most ``batch_size`` of them.
        """
        if len(columns) == 1:
            return columns[0].in_([key[0] for key in keys])
        return tuple_(*columns).in_(keys)

    def bound_key_filter(self, column: ColumnElement[Any], kind: TypeEngine[Any]) -> ColumnElement[bool]:
        """Return the condition that ``column`` is one of the keys bound as ``fedorm_keys``."""
        return column.in_(bindparam("fedorm_keys", type_=kind, expanding=True))

    def row_counts(self) -> TextClause | None:
        """Return the query for the names of the tables and about how many rows each has, by the server's statistics."""
        return None

    def orders_by_code_points(self) -> TextClause | None:
        """Return a query that says whether texts are ordered by their code points; None where that is not asked for."""
        return None

    def distinct_counts(self, tables: Sequence[str]) -> TextClause | None:
        """Return the query for table, column, and how many different values it has, by the server's statistics."""
        return None

    def key_condition(self, name: str) -> str:
        """Return the condition, after a column's name, that it equals one of the keys bound as ``name``."""
        return f"IN :{name}"

    def key_parameter(self, name: str, kind: TypeEngine[Any] | None, keys: Sequence[Any]) -> BindParameter[Any]:
        """Return the parameter for ``key_condition``."""
        return bindparam(name, keys, type_=kind, expanding=True)

    def scanner(self, engine: Engine) -> Scanner | None:
        """Return how DuckDB can read the tables of ``engine``'s database by itself; None where it cannot."""
        return None

    def may_read_outside(self, connection: Connection | None) -> bool:
        """Say whether another connection sees the same as a session's transaction, or as one that is yet to begin.

        It does while the transaction has written nothing; not where an isolation level is asked for: whoever does that
        wants the snapshot.
        """
        options = self.settings.options
        asked = [options, options.get("execution_options", {})]
        if connection is not None:
            asked.append(connection.get_execution_options())
        if any("isolation_level" in one for one in asked):
            return False
        return connection is None or self.has_written_nothing(connection)

    def has_written_nothing(self, connection: Connection) -> bool:
        """Say whether it is certain that a transaction has written nothing."""
        return False
