"""Which triggers a database has, and making those that it has not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import Connection, Select, column, func, select, table

from fedorm.outbox.triggers.capture import CHANGES, Capture, Change
from fedorm.outbox.triggers.ddl import body_of, creation, removal

_QUOTING = re.compile(r"\\[nrt0Z]|[\\'\s]")


def install(connection: Connection, capture: Capture) -> None:
    """Make the triggers that are not there or write something else, and drop those of changes that make no event."""
    found = _bodies(connection, capture)
    for change in CHANGES:
        if change in capture.types:
            if not _matches(connection, capture, change, found):
                for element in creation(capture, change, connection.dialect):
                    connection.execute(element)
        elif capture.name(change) in found:
            for element in removal(capture, change, connection.dialect):
                connection.execute(element)


def uninstall(connection: Connection, capture: Capture) -> None:
    """Drop the triggers that are there."""
    for change in CHANGES:
        for element in removal(capture, change, connection.dialect):
            connection.execute(element)


def stale(connection: Connection, capture: Capture) -> Sequence[Change]:
    """Return the changes whose trigger is not there, is switched off, or writes something else."""
    found = _bodies(connection, capture)
    return [
        change
        for change in CHANGES
        if not (
            _matches(connection, capture, change, found)
            if change in capture.types
            else capture.name(change) not in found
        )
    ]


def _matches(connection: Connection, capture: Capture, change: Change, found: dict[str, str]) -> bool:
    body = found.get(capture.name(change))
    return body is not None and _plain(body_of(capture, change, connection.dialect)) in _plain(body)


def _plain(body: str) -> str:
    # MySQL and MariaDB keep the body with its texts in quotes written anew.
    return _QUOTING.sub("", body)


def _bodies(connection: Connection, capture: Capture) -> dict[str, str]:
    """Return what the triggers with names of ours run, by name; of one that is switched off, nothing."""
    names = [capture.name(change) for change in CHANGES]
    ask = _ASK[connection.dialect.name]
    return dict(connection.execute(ask(capture, names)).tuples())


def _ask_postgresql(capture: Capture, names: Sequence[str]) -> Select[tuple[str, str]]:
    trigger = table("pg_trigger", *map(column, ("tgrelid", "tgname", "tgfoid", "tgenabled")), schema="pg_catalog")
    routine = table("pg_proc", *map(column, ("oid", "prosrc")), schema="pg_catalog")
    relation = table("pg_class", *map(column, ("oid", "relname", "relnamespace")), schema="pg_catalog")
    place = table("pg_namespace", *map(column, ("oid", "nspname")), schema="pg_catalog")
    return (
        select(trigger.c.tgname, routine.c.prosrc)
        .join(routine, routine.c.oid == trigger.c.tgfoid)
        .join(relation, relation.c.oid == trigger.c.tgrelid)
        .join(place, place.c.oid == relation.c.relnamespace)
        .where(
            relation.c.relname == capture.table.name,
            place.c.nspname == (capture.table.schema or func.current_schema()),
            trigger.c.tgname.in_(names),
            trigger.c.tgenabled != "D",
        )
    )


def _ask_mysql(capture: Capture, names: Sequence[str]) -> Select[tuple[str, str]]:
    columns = ("trigger_schema", "trigger_name", "action_statement", "event_object_table")
    trigger = table("TRIGGERS", *map(column, columns), schema="information_schema")
    return select(trigger.c.trigger_name, trigger.c.action_statement).where(
        trigger.c.event_object_table == capture.table.name,
        trigger.c.trigger_schema == (capture.table.schema or func.database()),
        trigger.c.trigger_name.in_(names),
    )


def _ask_sqlite(capture: Capture, names: Sequence[str]) -> Select[tuple[str, str]]:
    master = table("sqlite_master", *map(column, ("type", "name", "sql", "tbl_name")), schema=capture.table.schema)
    return select(master.c.name, master.c.sql).where(
        master.c.type == "trigger", master.c.tbl_name == capture.table.name, master.c.name.in_(names)
    )


_ASK = {"postgresql": _ask_postgresql, "mysql": _ask_mysql, "mariadb": _ask_mysql, "sqlite": _ask_sqlite}
