"""What Alembic finds different, in words, a table at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Enum, TypeDecorator

MISSING_TABLE = "the table is not there"
_KINDS = {
    "add_table": MISSING_TABLE,
    "remove_table": "no model declares the table",
    "add_column": "column {0} is not there",
    "remove_column": "no model declares column {0}",
    "add_index": "index {0} is not there",
    "remove_index": "no model declares index {0}",
    "add_constraint": "constraint {0} is not there",
    "remove_constraint": "no model declares constraint {0}",
    "add_fk": "foreign key {0} is not there",
    "remove_fk": "no model declares foreign key {0}",
    "add_table_comment": "the table's comment is not there",
    "remove_table_comment": "no model declares the table's comment",
    "create_outbox_triggers": "the triggers of its outbox are not there, or are not as they have to be",
    "drop_outbox_triggers": "no model's outbox wants its triggers",
}
_CHANGES = {
    "modify_type": "column {0} is {1}, and {2} in the models",
    "modify_nullable": "column {0} {1}, and {2} in the models",
    "modify_default": "column {0} has another default than in the models",
    "modify_comment": "column {0} has another comment than in the models",
}


def described(differences: Sequence[Any]) -> list[tuple[str, str]]:
    """Return pairs of a table and what is different there, by the tables' names."""
    found = sorted(_each(differences))
    whole = {table for table, what in found if what in (_KINDS["add_table"], _KINDS["remove_table"])}
    return [(table, what) for table, what in found if table not in whole or " table" in what]


def _each(differences: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for one in differences:
        if isinstance(one, list):  # Changes of one column.
            yield from _each(one)
        elif one[0] == "modify_engine":
            yield one[1], f"the engine is {one[2]}, and {one[3]} in the models"
        elif one[0] in _CHANGES:
            yield _changed(one)
        else:
            yield _added_or_removed(one)


def _changed(one: Any) -> tuple[str, str]:
    kind, schema, table, column, _, there, wanted = one
    if kind == "modify_nullable":
        there, wanted = (("may be NULL" if value else "may not be NULL") for value in (there, wanted))
    if kind == "modify_type":
        there, wanted = _type(there), _type(wanted)
    return _full(schema, table), _CHANGES[kind].format(column, there, wanted)


def _added_or_removed(one: Any) -> tuple[str, str]:
    kind, *rest = one
    text = _KINDS.get(kind, kind.replace("_", " "))
    if kind in ("add_column", "remove_column"):
        schema, table, column = rest[:3]
        return _full(schema, table), text.format(column.name)
    what = rest[0]
    table = getattr(what, "table", what)
    name = getattr(what, "name", None) or "without a name"
    return str(getattr(table, "fullname", table)), text.format(name)


def _full(schema: str | None, table: str) -> str:
    return f"{schema}.{table}" if schema else table


def _type(kind: Any) -> str:
    """Return a type as a database says it, and an enum with its values."""
    while isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    return f"ENUM({', '.join(kind.enums)})" if isinstance(kind, Enum) else str(kind)
