"""Which tables a statement reads and changes: told by the compiler, and for plain SQL by its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Table
from sqlalchemy.sql import visitors

from fedorm.stores.parsing import read_statements

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler as _Base
else:
    _Base = object

_LOCKS = re.compile(r"\bfor\s+(no\s+key\s+|key\s+)?(update|share)\b|\block\s+in\s+share\s+mode\b", re.IGNORECASE)
_QUERY = re.compile(r"[\s(]*(select|with|values|table)\b", re.IGNORECASE)
_SHOWS = re.compile(r"\s*(show|explain|describe|desc|pragma)\b", re.IGNORECASE)
_CHANGES = re.compile(r"\b(insert|update|delete|merge|replace|into|truncate|call)\b", re.IGNORECASE)
_NAMES_TABLES = re.compile(r"\b(select|from|join|table)\b", re.IGNORECASE)
_ACTS = re.compile(r"\b(set_config|nextval|setval|pg_advisory\w*|lo_\w+|dblink\w*)\s*\(", re.IGNORECASE)
"""Functions with an effect that outlasts the query, or that its text does not show."""
_ENDS = re.compile(
    r"\s*(commit|rollback|savepoint|release|begin|start)\b(?!\s+(prepared|work\s+prepared))", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Touched:
    """Tables by name, in small letters; None where it cannot be told which."""

    reads: frozenset[str] | None
    changes: frozenset[str] | None = frozenset()
    is_query: bool = False
    """Whether it returns rows and does nothing else: no change, no lock."""


NOTHING = Touched(frozenset())
ANYTHING = Touched(None, None)


class TouchedTables(_Base):
    """A mixin of a dialect's compiler that remembers the tables in ``touched``."""

    touched: Touched
    sql_dialect: str | None = None
    """What sqlglot calls the SQL of plain texts."""

    def __init__(self, dialect: Any, statement: Any, *args: Any, **options: Any) -> None:
        self._reads: set[str] = set()
        self._changes: set[str] = set()
        self._told: Touched | None = None
        self._is_vague = self._acts = False
        super().__init__(dialect, statement, *args, **options)
        self.touched = self._summary(statement) if statement is not None else ANYTHING
        self.only_reads = self.touched.changes == frozenset()

    def _summary(self, statement: Any) -> Touched:
        told = self._told or NOTHING
        text = getattr(self, "string", "") or ""
        if self._acts or _ACTS.search(text):
            return ANYTHING
        reads = None if self._is_vague or told.reads is None else told.reads | self._reads
        changes = None if told.changes is None else told.changes | self._changes
        is_query = not changes and changes is not None and (told.is_query or bool(getattr(statement, "is_select", 0)))
        return Touched(reads, changes, is_query and not _LOCKS.search(text))

    def visit_table(self, table: Any, *args: Any, **options: Any) -> Any:
        """Remember a table that is named in a FROM."""
        self._reads.add(table.name.lower())
        return super().visit_table(table, *args, **options)  # type: ignore[no-untyped-call]

    def visit_insert(self, insert_stmt: Any, *args: Any, **options: Any) -> Any:
        """Remember what is inserted into."""
        self._changes.update(_targets(insert_stmt))
        return super().visit_insert(insert_stmt, *args, **options)  # type: ignore[no-untyped-call]

    def visit_update(self, update_stmt: Any, *args: Any, **options: Any) -> Any:
        """Remember what is updated, and what the database itself updates with it."""
        self._changes.update(_with_dependents(update_stmt))
        return super().visit_update(update_stmt, *args, **options)

    def visit_delete(self, delete_stmt: Any, *args: Any, **options: Any) -> Any:
        """Remember what is deleted from, and what the database itself deletes with it."""
        self._changes.update(_with_dependents(delete_stmt))
        return super().visit_delete(delete_stmt, *args, **options)  # type: ignore[no-untyped-call]

    def visit_textclause(self, textclause: Any, *args: Any, **options: Any) -> Any:
        """Look into SQL text: the whole statement, or a fragment of one."""
        if not self.stack:
            self._told = touched_by(textclause.text, self.sql_dialect)
        elif _NAMES_TABLES.search(textclause.text):
            self._is_vague = True
        return super().visit_textclause(textclause, *args, **options)  # type: ignore[no-untyped-call]

    def visit_textual_select(self, taf: Any, *args: Any, **options: Any) -> Any:
        """Look into the text that has been given columns."""
        told, was_vague = touched_by(taf.element.text, self.sql_dialect), self._is_vague
        made = super().visit_textual_select(taf, *args, **options)  # type: ignore[no-untyped-call]
        self._told, self._is_vague = told, was_vague or told.reads is None
        return made

    def visit_column(self, column: Any, *args: Any, **options: Any) -> Any:
        """Look into ``literal_column()``."""
        if column.is_literal and _NAMES_TABLES.search(column.name):
            self._is_vague = True
        return super().visit_column(column, *args, **options)


def raw_touched(text: str) -> Touched:
    """Return what a string for the driver changes: nothing if it only asks, else anything."""
    asks = _QUERY.match(text) or _SHOWS.match(text) or _ENDS.match(text)
    return NOTHING if asks and not _CHANGES.search(text) and not _ACTS.search(text) else ANYTHING


@lru_cache(maxsize=1000)
def touched_by(text: str, dialect: str | None = None) -> Touched:
    """Return what a text reads and changes, as far as it can be told; with sqlglot, if it is there, by table."""
    if _ENDS.match(text):
        return NOTHING
    if _ACTS.search(text):
        return ANYTHING
    plain = bool(_QUERY.match(text)) and not _CHANGES.search(text) and not _LOCKS.search(text)
    guess = Touched(None, frozenset(), is_query=True) if plain else ANYTHING
    try:
        from sqlglot import exp
        from sqlglot.errors import SqlglotError
    except ModuleNotFoundError:
        return guess
    try:
        trees = read_statements(text, dialect)
    except (SqlglotError, RecursionError):
        return guess
    if len(trees) != 1:
        return guess
    tree: Any = trees[0]
    names = frozenset(table.name.lower() for table in tree.find_all(exp.Table))
    writes = list(tree.find_all(exp.Insert, exp.Update, exp.Delete, exp.Merge))
    if isinstance(tree, exp.Query) and not writes and tree.find(exp.Into) is None:
        return Touched(names, frozenset(), is_query=not _LOCKS.search(text))
    if not writes or not isinstance(tree, exp.Query | exp.Insert | exp.Update | exp.Delete | exp.Merge):
        return ANYTHING  # It may be anything: DDL, SET, a procedure.
    if any(isinstance(one, exp.Update | exp.Delete | exp.Merge) for one in writes):
        # Of several tables any may be changed; and what refers to them, by ON DELETE, nobody knows here.
        return Touched(names, None)
    targets = (one.this.find(exp.Table) if one.this is not None else None for one in writes)
    changes = [target.name.lower() if target is not None else None for target in targets]
    return Touched(names, None if None in changes else frozenset(name for name in changes if name is not None))


def _targets(statement: Any) -> Iterator[str]:
    for element in visitors.iterate(statement.table):
        if isinstance(element, Table) or element.__visit_name__ == "table":
            yield str(getattr(element, "name", "")).lower()


def _with_dependents(statement: Any) -> set[str]:
    tables = [element for element in visitors.iterate(statement.table) if isinstance(element, Table)]
    # MySQL updates several tables in one statement.
    tables += [
        key.table for key in getattr(statement, "_values", None) or () if isinstance(key, Column) and
        isinstance(key.table, Table)
    ]  # fmt: skip
    found: dict[str, Table] = {}
    while tables:
        table = tables.pop()
        if table.name.lower() not in found:
            found[table.name.lower()] = table
            tables += [
                other
                for other in table.metadata.tables.values()
                if any(
                    (key.ondelete or key.onupdate) and key.target_fullname.rpartition(".")[0] == table.fullname
                    for key in other.foreign_keys
                )
            ]
    return {*found, *_targets(statement)}
