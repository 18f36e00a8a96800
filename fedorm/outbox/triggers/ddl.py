"""The DDL of an outbox's triggers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ExecutableDDLElement, String, Table
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles

from fedorm.outbox.rules import Change
from fedorm.outbox.triggers.capture import Capture


class _OfTrigger(ExecutableDDLElement):
    """A statement about a trigger of a table, or the function that it calls."""

    inherit_cache = False

    def __init__(self, table: Table, name: str) -> None:
        self.table, self.name = table, name


class DropTrigger(_OfTrigger):
    """``DROP TRIGGER``, if it is there."""


class DropTriggerFunction(_OfTrigger):
    """``DROP FUNCTION``, if it is there."""


class _MakeTrigger(_OfTrigger):
    def __init__(self, capture: Capture, change: Change) -> None:
        super().__init__(capture.table, capture.name(change))
        self.capture, self.change = capture, change


class CreateTriggerFunction(_MakeTrigger):
    """``CREATE OR REPLACE FUNCTION``, where a trigger calls one."""


class RevokeTriggerFunction(_MakeTrigger):
    """``REVOKE``: nobody else makes triggers of the function, and events with it."""


class CreateTrigger(_MakeTrigger):
    """``CREATE TRIGGER``."""


def creation(capture: Capture, change: Change, dialect: Dialect) -> Sequence[ExecutableDDLElement]:
    """Return what makes a trigger, or makes it anew."""
    drop, create = DropTrigger(capture.table, capture.name(change)), CreateTrigger(capture, change)
    if dialect.name == "postgresql":
        return [CreateTriggerFunction(capture, change), RevokeTriggerFunction(capture, change), drop, create]
    return [create] if getattr(dialect, "is_mariadb", False) else [drop, create]


def removal(table: Table, name: str, dialect: Dialect) -> Sequence[ExecutableDDLElement]:
    """Return what drops a trigger."""
    drop = DropTrigger(table, name)
    return [drop, DropTriggerFunction(table, name)] if dialect.name == "postgresql" else [drop]


def body_of(capture: Capture, change: Change, dialect: Dialect) -> str:
    """Return what a trigger runs, as the database keeps it."""
    element = CreateTrigger(capture, change)
    return _body(element, element.compile(dialect=dialect))


def _body(element: _MakeTrigger, compiler: Any) -> str:
    schema = _schema(compiler) if compiler.dialect.name == "postgresql" else None
    statement = element.capture.statement(element.change, compiler.dialect, schema)
    # Of its own, so that the names that it makes up are the same every time.
    sql_compiler: Any = compiler.dialect.statement_compiler(compiler.dialect, None)
    sql: str = sql_compiler.process(statement, literal_binds=True)
    if compiler.dialect.identifier_preparer._double_percents:
        sql = sql.replace("%%", "%")  # Doubled again where it is put into the statement for the driver.
    return f"BEGIN {sql}; RETURN NULL; END" if schema is not None else sql


def _schema(compiler: Any) -> str:
    # Known once the dialect has connected; without a connection, PostgreSQL's own default.
    return str(compiler.dialect.default_schema_name or "public")


def _for_driver(sql: str, compiler: Any) -> str:
    return sql.replace("%", "%%") if compiler.dialect.identifier_preparer._double_percents else sql


def _table(element: _OfTrigger, compiler: Any) -> str:
    name: str = compiler.preparer.format_table(element.table)
    return name


def _name(element: _OfTrigger, compiler: Any) -> str:
    name: str = compiler.preparer.quote(element.name)
    return name


def _schema_name(element: _OfTrigger, compiler: Any) -> str:
    """Return the trigger's name where names of triggers belong to a schema: that of its table."""
    schema = element.table.schema
    name = _name(element, compiler)
    return name if schema is None else f"{compiler.preparer.quote_schema(schema)}.{name}"


def _function(element: _OfTrigger, compiler: Any) -> str:
    return f"{compiler.preparer.quote_schema(_schema(compiler))}.{_name(element, compiler)}()"


@compiles(CreateTriggerFunction, "postgresql")
def _create_function(element: CreateTriggerFunction, compiler: Any, **options: Any) -> str:
    # With its maker's rights, as a program that may write to the table need not have any at the outbox; so every name
    # has to mean what it meant to its maker.
    body = compiler.sql_compiler.render_literal_value(_body(element, compiler), String())
    return (
        f"CREATE OR REPLACE FUNCTION {_function(element, compiler)} RETURNS trigger LANGUAGE plpgsql"
        f" SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {body}"
    )


@compiles(RevokeTriggerFunction, "postgresql")
def _revoke_function(element: RevokeTriggerFunction, compiler: Any, **options: Any) -> str:
    return f"REVOKE ALL ON FUNCTION {_function(element, compiler)} FROM PUBLIC"


@compiles(DropTriggerFunction, "postgresql")
def _drop_function(element: DropTriggerFunction, compiler: Any, **options: Any) -> str:
    return f"DROP FUNCTION IF EXISTS {_function(element, compiler)}"


@compiles(CreateTrigger, "postgresql")
def _create_postgresql(element: CreateTrigger, compiler: Any, **options: Any) -> str:
    return (
        f"CREATE TRIGGER {_name(element, compiler)} AFTER {element.change.upper()} ON {_table(element, compiler)}"
        f" FOR EACH ROW EXECUTE FUNCTION {_function(element, compiler)}"
    )


@compiles(DropTrigger, "postgresql")
def _drop_postgresql(element: DropTrigger, compiler: Any, **options: Any) -> str:
    return f"DROP TRIGGER IF EXISTS {_name(element, compiler)} ON {_table(element, compiler)}"


@compiles(CreateTrigger, "mysql")
@compiles(CreateTrigger, "mariadb")
def _create_mysql(element: CreateTrigger, compiler: Any, **options: Any) -> str:
    # A body of one statement, which the mysql client takes from a script without another delimiter.
    create = "CREATE OR REPLACE" if compiler.dialect.is_mariadb else "CREATE"
    return (
        f"{create} TRIGGER {_schema_name(element, compiler)} AFTER {element.change.upper()}"
        f" ON {_table(element, compiler)} FOR EACH ROW {_for_driver(_body(element, compiler), compiler)}"
    )


@compiles(CreateTrigger, "sqlite")
def _create_sqlite(element: CreateTrigger, compiler: Any, **options: Any) -> str:
    return (
        f"CREATE TRIGGER {_schema_name(element, compiler)} AFTER {element.change.upper()}"
        f" ON {compiler.preparer.quote(element.table.name)} FOR EACH ROW"
        f" BEGIN {_body(element, compiler)}; END"
    )


@compiles(DropTrigger)
def _drop(element: DropTrigger, compiler: Any, **options: Any) -> str:
    return f"DROP TRIGGER IF EXISTS {_schema_name(element, compiler)}"
