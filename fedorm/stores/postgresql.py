"""PostgreSQL: asyncpg under greenlets, psycopg under threads."""

from __future__ import annotations

import asyncio
import datetime
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    URL,
    BindParameter,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Table,
    TextClause,
    any_,
    bindparam,
    event,
    func,
    select,
    text,
    types,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, DOMAIN
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import greenlet_spawn

from fedorm.exc import AuthenticationError, BranchHeldError, ServiceTimeoutError, ServiceUnavailableError, TLSError
from fedorm.stores import postgresql_findings, postgresql_twophase
from fedorm.stores.base import Capability
from fedorm.stores.branches import Branch
from fedorm.stores.exact import Processor, check_zones, use
from fedorm.stores.feeds import ChangeFeed
from fedorm.stores.findings import Finding, Needs
from fedorm.stores.postgresql_feed import PostgreSQLFeed
from fedorm.stores.postgresql_rows import PostgreSQLRowAccess
from fedorm.stores.postgresql_values import read_endless
from fedorm.stores.replicating import ReplicatingPostgreSQL
from fedorm.stores.rows import RowAccess, RowShape
from fedorm.stores.scanning import Scanner
from fedorm.stores.sql import SQLStore, array_filter
from fedorm.stores.twophase import InDoubt
from fedorm.stores.upserting import upsert_on_conflict

# SQLSTATE classes: 28 invalid authorization, 08 connection exception, 57P operator intervention.
_AUTHORIZATION = "28"
_CONNECTION = ("08", "57P", "3D000", "53300")
_LIBPQ = ("connect_timeout", "sslmode", "sslrootcert", "sslcert", "sslkey", "options")
_CANCELED = "57014"
# What the drivers say, without a code, of a connection that is no more.
_LOST = (
    "connection is closed", "connection was closed", "connection failed", "connection is lost", "connection refused",
    "server closed the connection", "consuming input failed", "could not translate",
)  # fmt: skip


class PostgreSQLStore(ReplicatingPostgreSQL, SQLStore):
    """A PostgreSQL database, 12 or later."""

    kind = "postgresql"
    oldest = (12,)
    answers_while_streaming = True
    sql_dialect = "postgres"
    extra = "postgresql"
    async_driver = "asyncpg"
    sync_driver = "psycopg"
    packages = ("asyncpg", "psycopg")
    # One array parameter: the statement's text stays the same, so its prepared form is used again.
    batch_size = 10_000
    capabilities = frozenset(
        {
            Capability.SQL,
            Capability.TRANSACTIONS,
            Capability.SAVEPOINTS,
            Capability.TWO_PHASE,
            Capability.DDL_IN_TRANSACTIONS,
            Capability.STREAMING,
            Capability.ARRAY_KEYS,
            Capability.WHOLE_QUERIES,
            Capability.JOINS,
            Capability.EXACT_SUMS,
            Capability.UPDATES,
            Capability.TLS,
            Capability.SKIP_LOCKED,
            Capability.LISTEN,
            Capability.CHANGE_FEED,
        }
    )

    def connect_args(self, url: URL, *, is_async: bool) -> dict[str, Any]:
        """Return timeouts and TLS for asyncpg or psycopg."""
        settings, limit = self.settings, self.settings.timeout
        if is_async:
            args: dict[str, Any] = {"timeout": settings.connect_timeout, "ssl": False}
            if limit is not None:
                # The server gives up first; the client's own limit is for a server that says nothing any more.
                args["server_settings"] = {"statement_timeout": str(math.ceil(limit * 1000))}
                args["command_timeout"] = limit + 1
            if self.tls is not None:
                args["ssl"] = self.tls_context(self.tls)
            return args
        args = {"connect_timeout": max(2, math.ceil(settings.connect_timeout)), "sslmode": "disable"}
        if limit is not None:
            args["options"] = f"-c statement_timeout={math.ceil(limit * 1000)}"
        if self.tls is not None:
            args["sslmode"] = "verify-full" if self.tls.verify else "require"
            if self.tls.verify:
                args["sslrootcert"] = str(self.tls.ca or "system")
            if self.tls.cert is not None:
                args["sslcert"], args["sslkey"] = str(self.tls.cert), str(self.tls.key or self.tls.cert)
        return args

    def adapt(self, dialect: Any) -> None:
        """Refuse a zone where the column has none, and the other way round; the drivers would guess."""
        check_zones(dialect)
        postgresql_twophase.phases(dialect, self.service).install(dialect)
        if dialect.driver == "psycopg":
            use(dialect, {types.Date: _endless(dialect, types.Date), types.DateTime: _endless(dialect, types.DateTime)})

    def _watched(self, engine: Engine) -> Engine:
        super()._watched(engine)
        if engine.dialect.driver == "psycopg":
            event.listen(engine, "connect", read_endless)
        return engine

    def classify(self, error: BaseException) -> type[ServiceUnavailableError | ServiceTimeoutError] | None:
        """Tell by SQLSTATE; errors without one are about the connection when the driver says so."""
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        text = str(error).lower()
        if isinstance(state, str):
            if state == _CANCELED and "timeout" in text:
                return ServiceTimeoutError
            if state.startswith(_AUTHORIZATION):
                # The server's words when a client certificate is asked for and none is shown.
                return TLSError if "certificate" in text or "no encryption" in text else AuthenticationError
            return ServiceUnavailableError if state.startswith(_CONNECTION) else None
        if "password authentication failed" in text or "no password supplied" in text:
            return AuthenticationError
        if any(word in text for word in ("ssl", "tls", "certificate")):
            return TLSError
        if "timeout" in text and "connection" in text:
            return ServiceTimeoutError
        return ServiceUnavailableError if any(words in text for words in _LOST) else None

    def key_filter(self, columns: Sequence[ColumnElement[Any]], keys: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
        """Send the keys of one column as one array; keys of several columns as a list of rows."""
        if len(columns) > 1:
            return super().key_filter(columns, keys)
        column_type: TypeEngine[Any] = columns[0].type
        if type(column_type) in (types.String, types.VARCHAR):
            column_type = types.String()  # A cast to one with a length would cut keys off, and find others.
        return array_filter(columns[0], [key[0] for key in keys], ARRAY(column_type))

    def bound_key_filter(self, column: ColumnElement[Any], kind: TypeEngine[Any]) -> ColumnElement[bool]:
        """Compare with one array."""
        return column == any_(bindparam("fedorm_keys", type_=ARRAY(kind)))

    def reflected_type(self, kind: TypeEngine[Any]) -> TypeEngine[Any]:
        """Keep the dialect's own types, which are those of a federated select; a domain is what it is made of."""
        return self.reflected_type(kind.data_type) if isinstance(kind, DOMAIN) else kind

    def orders_by_code_points(self) -> TextClause:
        """Try it out: in which view a collation is described differs from version to version."""
        return text(
            'SELECT array_agg(t ORDER BY t) = array_agg(t ORDER BY t COLLATE "C")'
            " FROM (VALUES ('a'), ('B'), ('_'), ('-a'), ('a b'), ('z'), ('\u00e9'), ('')) AS texts(t)"
        )

    def row_counts(self) -> TextClause:
        """Ask the planner's statistics, and the counters that are there before the first ANALYZE."""
        return text(
            "SELECT c.relname, greatest(c.reltuples, s.n_live_tup, 0) FROM pg_class c"
            " LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid"
            " WHERE c.relkind IN ('r', 'p', 'm') AND c.relnamespace = current_schema()::regnamespace"
        )

    def distinct_counts(self, tables: Sequence[str]) -> TextClause:
        """Ask the planner's statistics; a part of the rows is negative there."""
        return text(
            "SELECT s.tablename, s.attname, CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * greatest(c.reltuples, 0)"
            " ELSE s.n_distinct END FROM pg_stats s JOIN pg_class c ON c.relname = s.tablename"
            " AND c.relnamespace = current_schema()::regnamespace"
            " WHERE s.schemaname = current_schema() AND s.tablename = ANY (:tables)"
        ).bindparams(bindparam("tables", list(tables), type_=ARRAY(types.String())))

    def key_condition(self, name: str) -> str:
        """Compare with one array."""
        return f"= ANY (:{name})"

    def key_parameter(self, name: str, kind: TypeEngine[Any] | None, keys: Sequence[Any]) -> BindParameter[Any]:
        """Bind all keys as one array."""
        return bindparam(name, keys, type_=ARRAY(kind) if kind is not None else None)

    def refusal_of(self, connection: Connection) -> Finding | None:
        """Ask for the setting that allows prepared transactions."""
        asked = text(
            "SELECT current_setting('max_prepared_transactions')::int, current_setting('max_connections')::int"
        )
        allowed, connections = connection.execute(asked).one()
        if allowed:
            return None
        return Finding(
            "its max_prepared_transactions is 0, so that no transaction can be prepared",
            f"run  ALTER SYSTEM SET max_prepared_transactions = {connections}  and restart the server",
        )

    def asks_version(self) -> TextClause:
        """Return the query for the version alone."""
        return text("SHOW server_version")

    def examine_rights(self, connection: Connection, needs: Needs, there: Sequence[Table]) -> Iterator[Finding]:
        """Ask the server's catalog."""
        yield from postgresql_findings.examine_rights(connection, needs)
        yield from postgresql_findings.examine_log(connection)

    def in_doubt(self, connection: Connection) -> list[InDoubt]:
        """Ask for what is prepared in this database."""
        return postgresql_twophase.in_doubt(connection)

    def end_prepared(self, connection: Connection, branch: Branch, *, commit: bool) -> bool:
        """Send ``COMMIT PREPARED`` or ``ROLLBACK PREPARED``."""
        ended = postgresql_twophase.end_prepared(connection, branch, commit=commit)
        if ended is None:
            raise self.error(BranchHeldError, f"the prepared transaction {branch.gid} is just being ended")
        return ended

    @contextmanager
    def brief_lock_waits(self, connection: Connection, seconds: int) -> Iterator[None]:
        """Set ``lock_timeout`` for the transaction."""
        connection.execute(select(func.set_config("lock_timeout", f"{seconds}s", True)))
        yield

    def scanner(self, engine: Engine) -> Scanner | None:
        """Let DuckDB read by COPY, several parts of a large table at once and in one snapshot."""
        if self.url.query or "connect_args" in self.settings.options:
            return None  # A driver's own options, which may well say where tables are.
        args = self.connect_args(self.url, is_async=False)
        options = {name: str(args[name]) for name in _LIBPQ if name in args}
        secret = {"HOST": self.url.host, "PORT": self.url.port, "DATABASE": self.url.database}
        secret |= {"USER": self.url.username, "PASSWORD": self.url.password}
        return Scanner(
            "postgres_scanner",
            "postgres",
            {name: str(value) for name, value in secret.items() if value is not None},
            options,
            engine.dialect.default_schema_name or "public",
            filters=True,
        )

    def has_written_nothing(self, connection: Connection) -> bool:
        """Ask the server: a transaction has a number from its first write on."""
        return connection.scalar(text("SELECT txid_current_if_assigned() IS NULL")) is True

    def row_access(self, shape: RowShape) -> RowAccess:
        """Return what reads and writes whole rows of one table."""
        return PostgreSQLRowAccess(self, shape)

    def upsert(
        self, table: Table, names: Sequence[str], rows: Sequence[dict[str, Any]]
    ) -> list[tuple[Executable, list[dict[str, Any]]]]:
        """Use ``ON CONFLICT`` of the primary key."""
        return upsert_on_conflict(postgresql.insert(table), table, names, rows)

    async def listen(self, channel: str, wake: Callable[[], None]) -> None:
        """Call ``wake`` once the channel is listened to and at each notification, until the connection is lost."""
        lost = asyncio.Event()
        record = await greenlet_spawn(self.engine.raw_connection)
        connection: Any = record.driver_connection
        record.detach()  # It is not one of the pool's any more, and has no work to do for anybody else.
        try:
            connection.add_termination_listener(lambda *_: lost.set())
            await connection.add_listener(channel, lambda *_: wake())
            wake()  # Of what came before nobody was told.
            await lost.wait()
        finally:
            await greenlet_spawn(record.close)

    def change_feed(self, name: str, shapes: Sequence[RowShape]) -> ChangeFeed:
        """Return what reads a replication slot by logical decoding."""
        return PostgreSQLFeed(self, name, shapes)

    def keys_per_statement(self, width: int) -> int:
        """Return how many keys of ``width`` columns fit: PostgreSQL takes 32,767 parameters."""
        return self.batch_size if width == 1 else 500


def _endless(dialect: Any, generic: type[Any]) -> type[Any]:
    """Return the dialect's type, made to write the ends of Python's calendar as asyncpg does.

    For asyncpg they are PostgreSQL's ``infinity`` and ``-infinity``; one column must not hold two spellings of a value.
    """
    own = dialect.colspecs[generic]

    class Endless(own):  # type: ignore[valid-type, misc]
        def bind_processor(self, dialect: Any) -> Processor:
            inner = super().bind_processor(dialect)

            def process(value: Any) -> Any:
                if inner is not None:
                    value = inner(value)
                if isinstance(value, datetime.date):
                    end = value.replace(tzinfo=None) if isinstance(value, datetime.datetime) else value
                    if end in (type(end).min, type(end).max):
                        return "infinity" if end == type(end).max else "-infinity"
                return value

            return process

    return Endless
