"""What a user of MySQL or MariaDB may do: what ``SHOW GRANTS`` lists, those of the active roles with it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Connection, text, types

_NAME = r"(?:\*|`(?:[^`]|``)*`)"
_GRANT = re.compile(rf"GRANT (?P<what>.+?) ON (?:TABLE )?(?P<schema>{_NAME})\.(?P<table>{_NAME}) TO ", re.DOTALL)
_PRIVILEGE = re.compile(r"\s*([A-Za-z_ ]+?)\s*(?:\(([^)]*)\))?\s*(?:,|$)")
_ALL = "ALL PRIVILEGES"


@dataclass(frozen=True, slots=True)
class Grant:
    """Privileges for a part of the server: for all of it, for schemas that are LIKE a pattern, for a table."""

    schema: str | None
    """None for all; a pattern with ``%`` and ``_`` where ``table`` is None."""
    table: str | None
    privileges: frozenset[str]
    columns: frozenset[tuple[str, str]]
    """Pairs of a privilege and a column that it is for."""

    def covers(self, schema: str | None, table: str | None) -> bool:
        """Say whether it is for the whole server, for a schema, or for a table in one."""
        if self.schema is None:
            return True
        if schema is None:
            return False
        if self.table is None:
            return _is_like(schema, self.schema)
        return (schema, table) == (self.schema, self.table)


@dataclass(frozen=True, slots=True)
class Grants:
    """The privileges of a connection's user."""

    account: str
    """As statements write it."""
    grants: tuple[Grant, ...]

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """Ask the server."""
        text_type: Any = types.String()
        literal = text_type.literal_processor(connection.dialect)
        user, _, host = str(connection.scalar(text("SELECT CURRENT_USER()"))).rpartition("@")
        roles = _active_roles(connection)
        asked = f"SHOW GRANTS FOR CURRENT_USER() USING {roles}" if roles else "SHOW GRANTS"
        lines = connection.exec_driver_sql(asked.replace("%", "%%")).scalars().all()
        return cls(f"{literal(user)}@{literal(host)}".replace("%%", "%"), tuple(parsed(lines)))

    def has(self, privilege: str, schema: str | None = None, table: str | None = None) -> bool:
        """Say whether the user has a privilege for the whole server, for a schema, or for a table of one."""
        return any({privilege, _ALL} & one.privileges for one in self.grants if one.covers(schema, table))

    def has_for(self, privilege: str, schema: str, table: str, columns: Collection[str]) -> bool:
        """Say whether the user has a privilege for a table, or for all these columns of it."""
        if self.has(privilege, schema, table):
            return True
        named = {
            column for one in self.grants if one.covers(schema, table) for of, column in one.columns if of == privilege
        }
        return bool(columns) and set(columns) <= named


def _active_roles(connection: Connection) -> str | None:
    """Return the active roles of MySQL, which does not list their privileges by itself; None in MariaDB, which does."""
    dialect: Any = connection.dialect
    if dialect.is_mariadb or dialect.server_version_info < (8,):
        return None
    roles = str(connection.scalar(text("SELECT CURRENT_ROLE()")))
    return None if roles == "NONE" else roles


def parsed(lines: Collection[Any]) -> Iterator[Grant]:
    """Read what SHOW GRANTS has listed, but for roles, routines and proxies."""
    for line in lines:
        found = _GRANT.match(str(line))
        if found is None:
            continue
        privileges, columns = set(), set()
        for name, named in _PRIVILEGE.findall(found["what"]):
            if named:
                columns |= {(name.upper(), _plain(column.strip())) for column in named.split(",")}
            elif name:
                privileges.add(name.upper())
        if found["table"] == "*":
            schema, table = (None if found["schema"] == "*" else _plain(found["schema"])), None
        else:
            schema, table = _plain(found["schema"]), _plain(found["table"])
        yield Grant(schema, table, frozenset(privileges), frozenset(columns))


def _plain(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _is_like(name: str, pattern: str) -> bool:
    """Compare as LIKE does: ``%`` for any letters, ``_`` for one, a backslash before what stands for itself."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wanted = {"%": ".*", "_": "."}
    return re.fullmatch("".join(wanted.get(part) or re.escape(part[-1]) for part in parts), name, re.DOTALL) is not None
