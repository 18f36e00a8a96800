"""XA transactions of MySQL and MariaDB, over aiomysql and over PyMySQL.

Over the driver's own cursor: what is sent here is neither counted nor taken for a change by the result cache.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from fedorm.bridge import waiting
from fedorm.stores.branches import FORMAT, Branch
from fedorm.stores.twophase import InDoubt, Phases

_UNKNOWN_XID = 1397
_LOST = {2006, 2013, 2014, 2055}


def phases() -> Phases:
    """Return the commands."""

    def begin(connection: Connection, branch: Branch) -> None:
        _send(connection, "XA START %s, %s, %s", branch)

    def prepare(connection: Connection, branch: Branch) -> None:
        _send(connection, "XA END %s, %s, %s", branch)
        _send(connection, "XA PREPARE %s, %s, %s", branch)

    def commit(connection: Connection, branch: Branch) -> None:
        _send(connection, "XA END %s, %s, %s", branch)
        _send(connection, "XA COMMIT %s, %s, %s ONE PHASE", branch)

    def rollback(connection: Connection, branch: Branch) -> None:
        try:
            _send(connection, "XA END %s, %s, %s", branch)
        except connection.dialect.loaded_dbapi.Error as error:
            # It has been ended before, or the server has made up its mind already, for a deadlock, say.
            if _number(error) in _LOST:
                raise
        _send(connection, "XA ROLLBACK %s, %s, %s", branch)

    return Phases(
        begin=begin,
        prepare=prepare,
        commit_prepared=lambda connection, branch: _send(connection, "XA COMMIT %s, %s, %s", branch),
        rollback_prepared=lambda connection, branch: _send(connection, "XA ROLLBACK %s, %s, %s", branch),
        commit=commit,
        rollback=rollback,
    )


def end_prepared(connection: Connection, branch: Branch, *, commit: bool) -> bool | None:
    """End a branch that is prepared; False where it is not there, None where a living connection holds it."""
    pooled: Any = connection.connection
    # MariaDB lets a session without autocommit end its own branches alone (XAER_OUTSIDE).
    pooled.dbapi_connection.autocommit(True)
    try:
        _send(connection, "XA COMMIT %s, %s, %s" if commit else "XA ROLLBACK %s, %s, %s", branch)
    except connection.dialect.loaded_dbapi.Error as error:
        if _number(error) != _UNKNOWN_XID:
            raise
        # MariaDB says the same of one that another connection holds.
        return None if any(one.branch.gid == branch.gid for one in in_doubt(connection)) else False
    finally:
        connection.invalidate()  # Its pool's others have no autocommit.
    return True


def in_doubt(connection: Connection) -> list[InDoubt]:
    """Return the branches that are prepared on the server, of whatever database; since when nobody knows."""
    found: list[InDoubt] = []
    for number, length, _, data in _rows(connection, "XA RECOVER"):
        written = data.decode("ascii", "replace") if isinstance(data, bytes) else str(data)
        branch = Branch.parse(f"{written[:length]}:{written[length:]}") if number == FORMAT else None
        if branch is not None:
            found.append(InDoubt(branch, branch.started))
    return found


def _send(connection: Connection, command: str, branch: Branch) -> None:
    pooled: Any = connection.connection
    cursor = pooled.cursor()
    try:
        with waiting():
            cursor.execute(command, (branch.gtrid, branch.bqual, FORMAT))
    finally:
        cursor.close()


def _rows(connection: Connection, command: str) -> list[Any]:
    pooled: Any = connection.connection
    cursor = pooled.cursor()
    try:
        with waiting():
            cursor.execute(command)
        return list(cursor.fetchall())
    finally:
        cursor.close()


def _number(error: BaseException) -> int | None:
    return error.args[0] if error.args and isinstance(error.args[0], int) else None
