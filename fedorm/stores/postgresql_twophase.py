"""PREPARE TRANSACTION and what follows it, over asyncpg and over psycopg.

Each command goes to the driver itself, for its tag: to PREPARE TRANSACTION in a transaction that has failed PostgreSQL
answers ROLLBACK, and no error. Nothing may be sent around them, neither a BEGIN nor a ROLLBACK.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, String, bindparam, text, type_coerce
from sqlalchemy.util import await_only

from fedorm.bridge import waiting
from fedorm.exc import TwoPhaseError
from fedorm.stores.branches import PREFIX, Branch
from fedorm.stores.twophase import InDoubt, Phases

_NOT_THERE, _BUSY = "42704", "55000"
"""SQLSTATEs: undefined object, object not in prerequisite state."""

LISTED = text(
    "SELECT gid, prepared FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, :prefix)"
).bindparams(prefix=f"{PREFIX}:")


def phases(dialect: Any, service: str) -> Phases:
    """Return the commands for a dialect of either driver."""
    commit, rollback = dialect.do_commit, dialect.do_rollback

    def prepare(connection: Connection, branch: Branch) -> None:
        tag = _send(connection, "PREPARE TRANSACTION", branch)
        _is_over(connection)
        if tag != "PREPARE TRANSACTION":
            raise TwoPhaseError(
                f"the transaction was rolled back instead of prepared ({tag}): a statement of it had failed before",
                service=service,
            )

    return Phases(
        begin=_begin,
        prepare=prepare,
        commit_prepared=lambda connection, branch: _end(connection, "COMMIT PREPARED", branch),
        rollback_prepared=lambda connection, branch: _end(connection, "ROLLBACK PREPARED", branch),
        commit=lambda connection, branch: commit(connection.connection),
        rollback=lambda connection, branch: rollback(connection.connection),
    )


def _begin(connection: Connection, branch: Branch) -> None:
    """Begin, and let the outbox's trigger know: PostgreSQL prepares no transaction that has sent a notification."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute("SET LOCAL fedorm.prepares = 'on'")
    finally:
        cursor.close()


def _end(connection: Connection, command: str, branch: Branch) -> None:
    _send(connection, command, branch)


def end_prepared(connection: Connection, branch: Branch, *, commit: bool) -> bool | None:
    """End a branch that is prepared; False where it is not there, None where another connection is ending it."""
    try:
        _send(connection, "COMMIT PREPARED" if commit else "ROLLBACK PREPARED", branch)
    except connection.dialect.loaded_dbapi.Error as error:
        state = getattr(error, "sqlstate", None)
        if state == _NOT_THERE:
            return False
        if state == _BUSY:
            return None
        raise
    return True


def in_doubt(connection: Connection) -> list[InDoubt]:
    """Return the branches that are prepared in the database."""
    rows = connection.execute(LISTED).all()
    return [InDoubt(branch, since) for gid, since in rows if (branch := Branch.parse(gid)) is not None]


def _send(connection: Connection, command: str, branch: Branch) -> str:
    """Send a command that names a branch over the driver itself, outside of what it takes for a transaction."""
    # The commands take no parameters: SQLAlchemy writes the name as a literal.
    name = type_coerce(bindparam("gid", branch.gid), String())
    written = name.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    pooled: Any = connection.connection
    adapter = pooled.dbapi_connection
    if connection.dialect.driver == "asyncpg":
        try:
            return str(await_only(adapter._connection.execute(f"{command} {written}")))
        except Exception as error:
            adapter._handle_exception(error)
            raise
    outside = not command.startswith("PREPARE")
    with waiting():
        if outside:
            adapter.autocommit = True  # Else psycopg would begin a transaction first.
        try:
            return str(adapter.execute(f"{command} {written}").statusmessage)
        finally:
            if outside and not adapter.closed:
                adapter.autocommit = False


def _is_over(connection: Connection) -> None:
    """Tell asyncpg that its transaction is over, so that it does not send a ROLLBACK after it; psycopg asks libpq."""
    if connection.dialect.driver == "asyncpg":
        pooled: Any = connection.connection
        adapter = pooled.dbapi_connection
        adapter._transaction = None
        if hasattr(adapter, "_started"):
            adapter._started = False  # SQLAlchemy 2.0 keeps that apart.
        adapter._connection._top_xact = None
