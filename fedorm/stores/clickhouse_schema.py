"""Tables of ClickHouse's engine as models declare them and as the server has them, and what changes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    Connection,
    DefaultClause,
    Delete,
    MetaData,
    Table,
    Update,
    and_,
    bindparam,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import DDLElement
from sqlalchemy.types import TypeEngine, UserDefinedType

_TABLES = "SELECT name, engine, engine_full FROM system.tables WHERE database = currentDatabase()"
_COLUMNS = "SELECT table, name, type FROM system.columns WHERE database = currentDatabase()"
_WAITING = "SELECT count(*) FROM system.mutations WHERE database = currentDatabase() AND table = :table AND is_done = 0"
_VIEWS = ("View", "MaterializedView", "LiveView", "WindowView", "Dictionary")
_CLAUSES = re.compile(r"\b(PARTITION BY|ORDER BY|PRIMARY KEY|SAMPLE BY|TTL|SETTINGS|COMMENT)\b")
_BLANK = re.compile(r"[\s`\"]+")
_NULLABLE = re.compile(r"^(Nullable|LowCardinality\(Nullable|Array|Map|Tuple|Nested|AggregateFunction)\(")


class Native(UserDefinedType[Any]):
    """A column's type in ClickHouse's own words: ``Native("LowCardinality(String)")``."""

    cache_ok = True

    def __init__(self, declared: str) -> None:
        self.declared = declared

    def get_col_spec(self, **options: Any) -> str:
        """Return the words."""
        return self.declared


@dataclass(frozen=True, slots=True)
class Shape:
    """A table: its columns with their types, in order, and its engine with all that belongs to it."""

    name: str
    columns: Mapping[str, str]
    engine: str
    made_of: Sequence[Column[Any]] = ()
    """The columns to make it of, with all that is declared of them; of a table that is there, no defaults."""


def declared(store: Any, tables: Iterable[Table], dialect: Dialect) -> dict[str, Shape]:
    """Return models' tables as the server is to have them."""
    return {one.name: _shape(one, store, dialect) for one in store.native_tables(tables).tables.values()}


def _shape(table: Table, store: Any, dialect: Dialect) -> Shape:
    compiler: Any = dialect.ddl_compiler(dialect, None)  # type: ignore[arg-type]
    engine = " ".join(compiler.post_create_table(table).partition("ENGINE = ")[2].split())
    if getattr(dialect.identifier_preparer, "_double_percents", False):
        engine = engine.replace("%%", "%")  # They are doubled for the driver, once it is sent.
    columns = [native_column(one, store, dialect) for one in table.columns]
    for column in columns:
        default = compiler.get_column_default_string(column)
        if default is not None:
            column.server_default = DefaultClause(text(default))
    return Shape(table.name, {one.name: type_of(one, dialect) for one in table.columns}, engine, columns)


def type_of(column: Column[Any], dialect: Dialect) -> str:
    """Return the server's words for a column's type."""
    said: str = dialect.type_compiler_instance.process(column.type)
    if column.nullable and not column.primary_key and not _NULLABLE.match(said):
        return f"Nullable({said})"
    return said


def present(connection: Connection) -> dict[str, Shape]:
    """Return the tables of the database, but for views."""
    columns: dict[str, dict[str, str]] = {}
    for table, name, kind in connection.execute(text(_COLUMNS)):
        columns.setdefault(table, {})[name] = kind
    return {
        name: Shape(name, columns.get(name, {}), full or engine, [_column(*one) for one in columns[name].items()])
        for name, engine, full in connection.execute(text(_TABLES))
        if engine not in _VIEWS and not name.startswith(".inner")
    }


def _column(name: str, kind: str) -> Column[Any]:
    return Column(name, Native(kind), nullable=False)


def same_type(one: str, other: str) -> bool:
    """Say whether two texts mean one type."""
    return _canonical_type(one) == _canonical_type(other)


def _canonical_type(said: str) -> str:
    return re.sub(r"\bEnum\(", "Enum8(", re.sub(r"\s*([(),=])\s*", r"\1", said))


def same_engine(declared: str, present: str) -> bool:
    """Say whether a table has the engine that is declared; settings that are not declared are the server's own."""
    wanted, there = _parts(declared), _parts(present)
    settings = [parts.pop("SETTINGS", "").split(",") for parts in (wanted, there)]
    if wanted.get("PRIMARY KEY") == wanted.get("ORDER BY"):
        wanted.pop("PRIMARY KEY", None)
    return wanted == there and set(filter(None, settings[0])) <= set(settings[1])


def _parts(engine: str) -> dict[str, str]:
    pieces = _CLAUSES.split(engine)
    parts = {"": _BLANK.sub("", pieces[0]).removesuffix("()")}
    for clause, rest in zip(pieces[1::2], pieces[2::2], strict=True):
        said = _BLANK.sub("", rest)
        if said.startswith("(") and said.endswith(")") and _is_one_group(said):
            said = said[1:-1]
        parts[clause] = said
    parts.pop("COMMENT", None)
    return parts


def _is_one_group(said: str) -> bool:
    depth = 0
    for at, sign in enumerate(said):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and at < len(said) - 1:
            return False
    return True


# -- statements


class Made(DDLElement):
    """``CREATE TABLE`` with an engine, in the server's own words for it."""

    def __init__(self, table: Table, engine: str) -> None:
        self.table, self.engine = table, engine

    @classmethod
    def of(cls, name: str, columns: Sequence[Column[Any]], engine: str, store: Any, dialect: Dialect) -> Made:
        """Make it of columns of any types."""
        table = Table(name, MetaData())
        for one in columns:
            table.append_column(native_column(one, store, dialect))
        return cls(table, engine)


def native_column(column: Column[Any], store: Any, dialect: Dialect) -> Column[Any]:
    """Copy a column with the type that the server has for it."""
    copied: Column[Any] = column._copy()
    kind: TypeEngine[Any] = column.type if isinstance(column.type, Native) else store.native_type(column.type)
    typed: Column[Any] = Column("x", kind, nullable=bool(column.nullable), primary_key=column.primary_key)
    copied.type = kind if isinstance(kind, Native) else Native(type_of(typed, dialect))
    copied.nullable, copied.primary_key = False, False  # The type says it all.
    return copied


@compiles(Made)
def _made(element: Made, compiler: Any, **options: Any) -> str:
    name = compiler.preparer.format_table(element.table)
    columns = ", ".join(compiler.get_column_specification(one) for one in element.table.columns)
    return f"CREATE TABLE {name} ({columns}) ENGINE = {compiler.sql_compiler.post_process_text(element.engine)}"


class ModifiedColumn(DDLElement):
    """``ALTER TABLE ... MODIFY COLUMN``."""

    def __init__(self, table: Table, column: Column[Any]) -> None:
        self.table, self.column = table, column


@compiles(ModifiedColumn)
def _modified(element: ModifiedColumn, compiler: Any, **options: Any) -> str:
    name = compiler.preparer.format_table(element.table)
    return f"ALTER TABLE {name} MODIFY COLUMN {compiler.get_column_specification(element.column)}"


class RenamedColumn(DDLElement):
    """``ALTER TABLE ... RENAME COLUMN``; servers before 20.4 have none."""

    def __init__(self, table: Table, before: str, after: str) -> None:
        self.table, self.before, self.after = table, before, after


@compiles(RenamedColumn)
def _renamed(element: RenamedColumn, compiler: Any, **options: Any) -> str:
    quote, name = compiler.preparer.quote, compiler.preparer.format_table(element.table)
    return f"ALTER TABLE {name} RENAME COLUMN {quote(element.before)} TO {quote(element.after)}"


class Mutation(DDLElement):
    """``ALTER TABLE ... UPDATE`` or ``DELETE``, which the server carries out some time later."""

    def __init__(self, statement: Update | Delete) -> None:
        self.statement = statement

    @property
    def table(self) -> Any:
        """The table that is changed."""
        return self.statement.table


@compiles(Mutation)
def _mutation(element: Mutation, compiler: Any, **options: Any) -> str:
    statement: Any = element.statement
    literal = {"include_table": False, "literal_binds": True}
    where = compiler.sql_compiler.process(and_(True, *statement._where_criteria), **literal)
    name = compiler.preparer.format_table(statement.table)
    if isinstance(statement, Delete):
        return f"ALTER TABLE {name} DELETE WHERE {where}"
    values = ", ".join(_set(statement, column, value, compiler, literal) for column, value in statement._values.items())
    return f"ALTER TABLE {name} UPDATE {values} WHERE {where}"


def _set(statement: Update, column: Any, value: Any, compiler: Any, literal: dict[str, Any]) -> str:
    name = getattr(column, "name", column)
    if isinstance(value, BindParameter):  # Of a column that is named by a text it does not know the type.
        value = bindparam(None, value.effective_value, type_=statement.table.c[name].type)
    return f"{compiler.preparer.quote(name)} = {compiler.sql_compiler.process(value, **literal)}"


def is_mutating(connection: Connection, table: str) -> bool:
    """Say whether the server has still to carry out a mutation of a table."""
    return bool(connection.execute(text(_WAITING), {"table": table}).scalar())
