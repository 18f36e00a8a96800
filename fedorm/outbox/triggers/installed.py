"""Which triggers a database has, and making those that it has not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Engine, Select, Table, case, column, func, select
from sqlalchemy import table as named

from fedorm.exc import OutboxRuleError
from fedorm.outbox.rules import Change
from fedorm.outbox.triggers.capture import PREFIX, Capture, has_triggers
from fedorm.outbox.triggers.captures import captures
from fedorm.outbox.triggers.ddl import body_of, creation, removal

_QUOTING = re.compile(r"\\[nrt0Z]|[\\'\s]")


def install(connection: Connection, table: Table, captures: Sequence[Capture]) -> None:
    """Make the triggers of a table that are not there or write something else, and drop those that are not wanted."""
    for name, wanted in stale(connection, table, captures).items():
        dialect = connection.dialect
        for element in creation(*wanted, dialect) if wanted is not None else removal(table, name, dialect):
            connection.execute(element)


def make_triggers(engine: Engine, service: str) -> None:
    """Make, or make anew, the triggers that the rules of a service's models want, and drop what they do not want.

    Raises ``OutboxRuleError`` where there are no triggers.
    """
    wanted = captures(service)
    if not has_triggers(engine.dialect):
        if names := ", ".join(table.fullname for table, found in wanted.items() if found):
            raise OutboxRuleError(
                f"the outbox rules of {names} in {service!r}: {engine.dialect.name} has no triggers that could write"
                " events; let the session do it, by='session'"
            )
        return
    with engine.begin() as connection:
        for table, found in wanted.items():
            install(connection, table, found)


def stale(
    connection: Connection, table: Table, captures: Sequence[Capture]
) -> Mapping[str, tuple[Capture, Change] | None]:
    """Return the triggers of a table that are not there, are switched off or write something else, by name.

    With what they should write, or None for one that is there and should not be.
    """
    wanted = {capture.name(change): (capture, change) for capture in captures for change in capture.changes}
    found = installed(connection, table)
    wrong: dict[str, tuple[Capture, Change] | None] = {
        name: what
        for name, what in wanted.items()
        if _plain(body_of(*what, connection.dialect)) not in _plain(found.get(name, ""))
    }
    return wrong | {name: None for name in found if name not in wanted}


def missing(connection: Connection, table: Table, captures: Sequence[Capture]) -> list[str]:
    """Return the names of triggers that are not there, or are switched off, whatever those that are there write."""
    found = installed(connection, table)
    names = (capture.name(change) for capture in captures for change in capture.changes)
    return [name for name in names if not found.get(name)]


def installed(connection: Connection, table: Table) -> dict[str, str]:
    """Return what the triggers with names of ours run, by name; of one that is switched off, nothing."""
    ask = _ASK[connection.dialect.name]
    return {str(name): str(body) for name, body in connection.execute(ask(table))}


def _plain(body: str) -> str:
    # MySQL and MariaDB keep the body with its texts in quotes written anew.
    return _QUOTING.sub("", body)


def _ask_postgresql(of: Table) -> Select[tuple[str, str]]:
    trigger = named("pg_trigger", *map(column, ("tgrelid", "tgname", "tgfoid", "tgenabled")), schema="pg_catalog")
    routine = named("pg_proc", *map(column, ("oid", "prosrc")), schema="pg_catalog")
    relation = named("pg_class", *map(column, ("oid", "relname", "relnamespace")), schema="pg_catalog")
    place = named("pg_namespace", *map(column, ("oid", "nspname")), schema="pg_catalog")
    return (
        select(trigger.c.tgname, case((trigger.c.tgenabled != "D", routine.c.prosrc), else_=""))
        .join(routine, routine.c.oid == trigger.c.tgfoid)
        .join(relation, relation.c.oid == trigger.c.tgrelid)
        .join(place, place.c.oid == relation.c.relnamespace)
        .where(
            relation.c.relname == of.name,
            place.c.nspname == (of.schema or func.current_schema()),
            trigger.c.tgname.startswith(PREFIX, autoescape=True),
        )
    )


def _ask_mysql(of: Table) -> Select[tuple[str, str]]:
    columns = ("trigger_schema", "trigger_name", "action_statement", "event_object_table")
    trigger = named("TRIGGERS", *map(column, columns), schema="information_schema")
    return select(trigger.c.trigger_name, trigger.c.action_statement).where(
        trigger.c.event_object_table == of.name,
        trigger.c.trigger_schema == (of.schema or func.database()),
        trigger.c.trigger_name.startswith(PREFIX, autoescape=True),
    )


def _ask_sqlite(of: Table) -> Select[tuple[str, str]]:
    master = named("sqlite_master", *map(column, ("type", "name", "sql", "tbl_name")), schema=of.schema)
    return select(master.c.name, master.c.sql).where(
        master.c.type == "trigger", master.c.tbl_name == of.name, master.c.name.startswith(PREFIX, autoescape=True)
    )


_ASK = {"postgresql": _ask_postgresql, "mysql": _ask_mysql, "mariadb": _ask_mysql, "sqlite": _ask_sqlite}
