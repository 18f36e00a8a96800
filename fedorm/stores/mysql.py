"""MySQL and MariaDB: aiomysql under greenlets, PyMySQL under threads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from sqlalchemy import URL, Connection, Engine, Executable, MetaData, Table, TextClause, bindparam, event, text, types
from sqlalchemy.dialects import mysql

from fedorm.exc import AuthenticationError, BranchHeldError, ServiceTimeoutError, ServiceUnavailableError, TLSError
from fedorm.stores import mysql_findings, mysql_twophase
from fedorm.stores.base import Capability
from fedorm.stores.branches import Branch
from fedorm.stores.exact import Compared, ExactCompared, ExactNumeric, Zoned, use
from fedorm.stores.feeds import ChangeFeed
from fedorm.stores.findings import Finding, Needs, too_old
from fedorm.stores.mysql_rows import MySQLRowAccess
from fedorm.stores.reflecting import Wanted, restore_json
from fedorm.stores.replicating import ReplicatingMySQL
from fedorm.stores.rows import RowAccess, RowShape
from fedorm.stores.scanning import WRITTEN, Scanner, note_writes
from fedorm.stores.sql import SQLStore, execute_within
from fedorm.stores.twophase import InDoubt

_ACCESS_DENIED = {1044, 1045, 1698, 2059}
_TIMEOUT = {1969, 3024, 1205}
_GONE = {1040, 1049, 1053, 1927, 2003, 2006, 2013, 2014, 2055, 4031}


class _DateTime(Zoned):
    """A DATETIME, which holds no zone: of a column with one, in UTC."""

    stores_utc = True


class _Numeric(ExactNumeric):
    """A DECIMAL; MySQL's own default has no digit after the point."""

    widest = (65, 30)


class MySQLStore(ReplicatingMySQL, SQLStore):
    """A MySQL 8 or MariaDB 10.6 database, or later."""

    kind = "mysql"
    names_branches_first = True
    sql_dialect = "mysql"
    extra = "mysql"
    async_driver = "aiomysql"
    sync_driver = "pymysql"
    packages = ("aiomysql", "pymysql")
    # MariaDB turns a list of 1,000 values or more into a temporary table, which is slower.
    batch_size = 900
    capabilities = frozenset(
        {
            Capability.SQL,
            Capability.TRANSACTIONS,
            Capability.SAVEPOINTS,
            Capability.TWO_PHASE,
            Capability.STREAMING,
            Capability.JOINS,
            Capability.EXACT_SUMS,
            Capability.UPDATES,
            Capability.TLS,
            Capability.SKIP_LOCKED,
            Capability.CHANGE_FEED,
        }
    )

    def connect_args(self, url: URL, *, is_async: bool) -> dict[str, Any]:
        """Return timeouts and TLS, the same for both drivers."""
        args: dict[str, Any] = {"connect_timeout": math.ceil(self.settings.connect_timeout)}
        if self.settings.timeout is not None and not is_async:
            # The server gives up first; this is for one that says nothing any more.
            args["read_timeout"] = args["write_timeout"] = math.ceil(self.settings.timeout + 1)
        if "charset" not in url.query:
            args["charset"] = "utf8mb4"
        if self.tls is not None:
            args["ssl"] = self.tls_context(self.tls)
        return args

    def adapt(self, dialect: Any) -> None:
        """Keep zones, and columns wide enough for what their generic types promise."""
        mysql_twophase.phases().install(dialect)
        own = {
            kind: kind
            for kind in vars(mysql).values()
            if isinstance(kind, type) and issubclass(kind, types.Float | types.TIMESTAMP)
        }
        use(
            dialect,
            {
                types.DateTime: _DateTime,
                types.Numeric: _Numeric,
                Compared: ExactCompared,
                types.Float: types.Float,
                **own,
            },
        )
        compiler = type(dialect.type_compiler_instance)

        class WideTypes(compiler):  # type: ignore[misc, valid-type]
            """Microseconds, 8-byte floats and decimals with a fraction, for types that do not say otherwise."""

            def visit_datetime(self, type_: Any, **kw: Any) -> str:
                return "DATETIME(6)"

            def visit_time(self, type_: Any, **kw: Any) -> str:
                return "TIME(6)"

            def visit_float(self, type_: Any, **kw: Any) -> str:
                return "DOUBLE" if type_.precision is None else self.visit_FLOAT(type_, **kw)

            def visit_numeric(self, type_: Any, **kw: Any) -> str:
                return "NUMERIC(65, 30)" if type_.precision is None else self.visit_NUMERIC(type_, **kw)

        dialect.type_compiler_instance = dialect.type_compiler = WideTypes(dialect)

    def _watched(self, engine: Engine) -> Engine:
        super()._watched(engine)
        event.listen(engine, "connect", _mend_bytes)
        note_writes(engine)
        limit = self.settings.timeout
        if limit is not None:

            @event.listens_for(engine, "connect")
            def set_timeout(connection: Any, record: Any) -> None:
                """Limit statements on the server: seconds in MariaDB, milliseconds of SELECTs in MySQL."""
                cursor = connection.cursor()
                cursor.execute("SELECT VERSION()")
                mariadb = "mariadb" in str(cursor.fetchone()[0]).lower()
                name, value = (
                    ("max_statement_time", limit) if mariadb else ("max_execution_time", math.ceil(limit * 1000))
                )
                cursor.execute(f"SET SESSION {name} = %s", (value,))
                cursor.close()

            if engine.dialect.is_async:  # aiomysql has no limit of its own.
                for moment in ("do_execute", "do_executemany"):
                    event.listen(engine, moment, partial(execute_within, limit + 1, moment))

        return engine

    def reflect_tables(self, connection: Connection, metadata: MetaData, wanted: Wanted) -> None:
        """Put tables and views into ``metadata``; MariaDB's JSON columns are texts with a check."""
        super().reflect_tables(connection, metadata, wanted)
        if connection.dialect.is_mariadb:  # type: ignore[attr-defined]
            restore_json(connection, metadata)

    def reflected_type(self, kind: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
        """Return SQLAlchemy's own type; a year is a number."""
        return types.Integer() if isinstance(kind, mysql.YEAR) else super().reflected_type(kind)

    def row_counts(self) -> TextClause:
        """Ask InnoDB's statistics."""
        return text(
            "SELECT table_name, coalesce(table_rows, 0) FROM information_schema.tables WHERE table_schema = database()"
        )

    def distinct_counts(self, tables: Sequence[str]) -> TextClause:
        """Ask for the cardinality of the indexes' first columns."""
        return text(
            "SELECT table_name, column_name, max(cardinality) FROM information_schema.statistics"
            " WHERE table_schema = database() AND seq_in_index = 1 AND cardinality > 0 AND table_name IN :tables"
            " GROUP BY table_name, column_name"
        ).bindparams(bindparam("tables", list(tables), expanding=True))

    def scanner(self, engine: Engine) -> Scanner | None:
        """Let DuckDB read over a connection of its own, where no time limit and no certificate has to hold there."""
        url = self.url
        if self.tls is not None or self.settings.timeout is not None or not url.database:
            return None
        if set(url.query) - {"charset"} or "connect_args" in self.settings.options:
            return None  # A driver's own options.
        secret = {"HOST": url.host, "PORT": url.port, "DATABASE": url.database}
        secret |= {"USER": url.username, "PASSWORD": url.password}
        given = {name: str(value) for name, value in secret.items() if value is not None}
        return Scanner("mysql_scanner", "mysql", given, {}, url.database, holds_utc=True)

    def has_written_nothing(self, connection: Connection) -> bool:
        """Go by what was sent: the server does not say whether a transaction has written."""
        return WRITTEN not in connection.info

    def refusal_of(self, connection: Connection) -> Finding | None:
        """Go by the version: before, a server rolls back what is prepared when its connection ends."""
        dialect: Any = connection.dialect
        name, least = ("MariaDB", (10, 5)) if dialect.is_mariadb else ("MySQL", (5, 7, 7))
        if dialect.server_version_info[: len(least)] >= least:
            return None
        problem = "cannot keep a prepared transaction when its connection ends"
        return Finding(problem, f"{name} {'.'.join(map(str, least))} can", "version")

    def finding_of_version(self, version: str) -> Finding | None:
        """Compare it with that of the one or the other."""
        if "mariadb" in version.lower():
            return too_old("MariaDB", version, (10, 6))
        return too_old("MySQL", version, (8,))

    def examine_rights(self, connection: Connection, needs: Needs, there: Sequence[Table]) -> Iterator[Finding]:
        """Read the user's grants, and the tables' engines."""
        yield from mysql_findings.examine(connection, needs, str(self.url.database))

    def in_doubt(self, connection: Connection) -> list[InDoubt]:
        """Ask for what is prepared on the server, whatever database it is of."""
        return mysql_twophase.in_doubt(connection)

    def end_prepared(self, connection: Connection, branch: Branch, *, commit: bool) -> bool:
        """Send ``XA COMMIT`` or ``XA ROLLBACK``."""
        ended = mysql_twophase.end_prepared(connection, branch, commit=commit)
        if ended is None:
            raise self.error(BranchHeldError, f"the prepared transaction {branch.gid} belongs to a living connection")
        return ended

    @contextmanager
    def brief_lock_waits(self, connection: Connection, seconds: int) -> Iterator[None]:
        """Set ``innodb_lock_wait_timeout`` for the connection, and afterwards what it was."""
        before = connection.scalar(text("SELECT @@SESSION.innodb_lock_wait_timeout"))
        connection.execute(text("SET SESSION innodb_lock_wait_timeout = :seconds"), {"seconds": seconds})
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.execute(text("SET SESSION innodb_lock_wait_timeout = :seconds"), {"seconds": before})

    def row_access(self, shape: RowShape) -> RowAccess:
        """Return what reads and writes whole rows of one table."""
        return MySQLRowAccess(self, shape)

    def upsert(
        self, table: Table, names: Sequence[str], rows: Sequence[dict[str, Any]]
    ) -> list[tuple[Executable, list[dict[str, Any]]]]:
        """Use ``ON DUPLICATE KEY UPDATE``."""
        made = mysql.insert(table)
        keys = set(table.primary_key)
        changed = {name: made.inserted[name] for name in names if table.c[name] not in keys}
        # A row of keys alone is there already, and stays: a column is set to what it is.
        kept = {column.name: column for column in list(keys)[:1]}
        return [(made.on_duplicate_key_update(changed or kept), list(rows))]

    def change_feed(self, name: str, shapes: Sequence[RowShape]) -> ChangeFeed:
        """Read the row-based binary log; nothing is made on the server, so that the name does not matter."""
        for module, package in (("pymysqlreplication", "mysql-replication"), ("sqlglot", "sqlglot")):
            try:
                import_module(module)
            except ModuleNotFoundError as error:
                raise self.missing_driver(package) from error
        from fedorm.stores.mysql_feed import MySQLFeed

        return MySQLFeed(self, shapes)

    def classify(self, error: BaseException) -> type[ServiceUnavailableError | ServiceTimeoutError] | None:
        """Tell by the server's or the client's error number."""
        number = error.args[0] if error.args and isinstance(error.args[0], int) else None
        text = str(error).lower()
        if number in _ACCESS_DENIED:
            return AuthenticationError
        if number in _TIMEOUT:
            return ServiceTimeoutError
        if any(word in text for word in ("ssl", "tls", "certificate")):
            return TLSError
        if number in _GONE or "connection reset" in text or "not connected" in text:
            return ServiceUnavailableError
        return None


def _mend_bytes(connection: Any, record: Any) -> None:
    """Escape bytes for aiomysql, whose own way PyMySQL has taken away in 1.2."""
    driver = getattr(connection, "driver_connection", None)
    if driver is None:
        return
    escape = driver.escape
    driver.escape = lambda value: f"_binary X'{value.hex()}'" if isinstance(value, bytes) else escape(value)
