"""DuckDB in process: finishes what no single service can, over Arrow, within a memory limit."""

from __future__ import annotations

import datetime
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
from sqlalchemy import Table
from sqlglot import exp

from fedorm.config import QuerySettings
from fedorm.exc import UnsupportedQueryError
from fedorm.query.checking import check_finish
from fedorm.query.macros import MACROS
from fedorm.query.outside import Attached, attach
from fedorm.query.plan import Plan
from fedorm.stores.scanning import Scanner

_POSTGRESQL = "SET TimeZone = 'UTC'; SET integer_division = true"
"""What makes DuckDB mean what PostgreSQL means; a connection does not inherit it."""
_BATCH = 10_000
"""Rows of a result that are made into Python's at a time."""

logger = logging.getLogger(__name__)


class Finisher:
    """One in-memory database for a federation; each statement gets a connection of its own to it."""

    def __init__(self, limits: QuerySettings | None = None) -> None:
        self._limits = limits or QuerySettings()
        self._database = self._opened()
        self._attached: dict[str, Attached | None] = {}
        self._attaching = threading.Lock()

    def _opened(self) -> duckdb.DuckDBPyConnection:
        database, limits = duckdb.connect(":memory:"), self._limits
        for name, value in {"memory_limit": limits.memory_limit, "temp_directory": limits.spill_directory}.items():
            if value is not None:
                database.execute(f"SET {name} = $value", {"value": str(value)})
        database.execute("SET preserve_insertion_order = false")  # It would hold what may be streamed.
        # Of a window ordered by NULL it makes rows of NULL (duckdb, issue 24363).
        database.execute("SET disabled_optimizers = 'top_n_window_elimination'")
        for macro in MACROS:
            database.execute(f"CREATE MACRO {macro}")
        return database

    def renew(self, broken: duckdb.DuckDBPyConnection) -> None:
        """Open a new database in the place of one that a defect of DuckDB has made unusable."""
        with self._attaching:
            if self._database is broken:
                logger.warning("DuckDB has failed by a defect of its own, and is started anew")
                self._database, self._attached = self._opened(), {}

    def attached(self, service: str, scanner: Scanner) -> Attached | None:
        """Attach a service's database at the first call; None where that is not possible, for which the log has why.

        Blocks: run it in a thread.
        """
        with self._attaching:
            if service not in self._attached:
                try:
                    self._attached[service] = attach(self._database, service, scanner)
                except duckdb.Error as error:
                    # Not the error itself: it may repeat the connection's settings.
                    logger.info("service %s is read over the session: %s", service, type(error).__name__)
                    self._attached[service] = None
            return self._attached[service]

    @staticmethod
    def view(attached: Attached, table: Table, columns: Sequence[str]) -> exp.Query | None:
        """Return how columns of a table are read; None where DuckDB would bend a value, or is not answered."""
        try:
            return attached.view(table, columns)
        except duckdb.Error as error:
            logger.info("table %s is read over the session: %s", table.name, type(error).__name__)
            return None

    def _cursor(self) -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyConnection]:
        """Return the database and a connection to it that means what PostgreSQL means."""
        for _ in range(2):
            database = self._database
            try:
                connection = database.cursor()
                connection.execute(_POSTGRESQL)
            except duckdb.FatalException:
                self.renew(database)  # Another statement has met a defect.
            else:
                return database, connection
        raise UnsupportedQueryError("DuckDB cannot be started")

    def check(self, plan: Plan) -> None:
        """Refuse a plan whose finish DuckDB cannot bind, before anything is read; see ``check_finish``."""
        _, connection = self._cursor()
        try:
            check_finish(plan, connection)
        finally:
            connection.close()

    def start(
        self, tables: Mapping[str, pa.Table], views: Mapping[str, exp.Query], *, optimizes: bool = True
    ) -> Finishing:
        """Return a connection that knows the tables and views by their names."""
        database, connection = self._cursor()
        try:
            if not optimizes:
                connection.execute("PRAGMA disable_optimizer")
            for name, table in tables.items():
                connection.register(name, table)
            for name, query in views.items():
                view = exp.Create(this=exp.table_(name, quoted=True), kind="VIEW", expression=query)
                view.set("properties", exp.Properties(expressions=[exp.TemporaryProperty()]))
                connection.execute(view.sql(dialect="duckdb"))
        except BaseException:
            connection.close()
            raise
        return Finishing(connection, database)

    def close(self) -> None:
        """Give the memory back, and the connections of what is attached."""
        self._database.close()


class Finishing:
    """One statement in DuckDB. All methods but ``interrupt`` block: run them in a thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, database: duckdb.DuckDBPyConnection) -> None:
        self._connection, self.database = connection, database
        self._kinds: list[str] = []
        self._reader: pa.RecordBatchReader | None = None

    def run(self, sql: str, parameters: Mapping[str, Any]) -> None:
        """Run the statement; its rows are not made yet."""
        result = self._connection.execute(sql, {name: _bound(value) for name, value in parameters.items()})
        self._kinds = [str(column[1]) for column in result.description]

    def table(self) -> pa.Table:
        """Return the whole result, decimals for integers that are wider than 64 bits."""
        return self._connection.to_arrow_table()

    def profile(self) -> None:
        """Measure the statement that follows."""
        self._connection.execute("PRAGMA enable_profiling = 'no_output'")

    def profiled(self) -> dict[str, Any]:
        """Return DuckDB's tree of operators, as it is once the result has been read."""
        found: dict[str, Any] = json.loads(self._connection.get_profiling_information(format="json"))
        return found

    def rows(self) -> list[tuple[Any, ...]]:
        """Return all rows in Python's own types."""
        return self._python(self.table())

    def batch(self) -> list[tuple[Any, ...]]:
        """Return the next rows, none at the end."""
        if self._reader is None:
            self._reader = self._connection.to_arrow_reader(_BATCH)
        for batch in self._reader:
            if batch.num_rows:
                return self._python(batch)
        return []

    def _python(self, found: Any) -> list[tuple[Any, ...]]:
        try:
            columns = [_values(found.column(number), kind) for number, kind in enumerate(self._kinds)]
        except OverflowError as error:
            raise UnsupportedQueryError(f"a value of the result is outside of what Python holds: {error}") from error
        return list(zip(*columns, strict=True)) if columns else []

    def interrupt(self) -> None:
        """Make the statement that runs end with an error."""
        self._connection.interrupt()

    def close(self) -> None:
        """Let go of the tables."""
        self._reader = None
        self._connection.close()


def _bound(value: Any) -> Any:
    """Return a value as DuckDB takes it whole, and finds it by its hash."""
    if isinstance(value, list | tuple):
        return [_bound(one) for one in value]
    if isinstance(value, datetime.timedelta):  # Days below zero with hours above it would equal nothing.
        return duckdb.Value(f"{value // datetime.timedelta(microseconds=1)} microseconds", duckdb.sqltype("INTERVAL"))
    return value + 0.0 if isinstance(value, float) else value  # One zero.


def _values(column: Any, kind: str) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if kind in ("HUGEINT", "UHUGEINT"):  # Arrow knows them as decimals.
        return [None if value is None else int(value) for value in values]
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        return [None if value is None else value.astimezone(datetime.UTC) for value in values]
    if kind == "INTERVAL":
        return [None if value is None else _interval(*value) for value in values]
    return values


def _interval(months: int, days: int, nanoseconds: int) -> datetime.timedelta:
    """Return what PostgreSQL's drivers make of an interval: a year has 365 days, each month left over 30."""
    years, rest = divmod(abs(months), 12)
    of_months = (years * 365 + rest * 30) * (1 if months >= 0 else -1)
    return datetime.timedelta(days=of_months + days, microseconds=nanoseconds // 1000)
