"""Tables that no model declares, read from a SQL server's own catalog."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, ForeignKeyConstraint, MetaData, Table, event, text, types

Wanted = Callable[[str], bool]
"""Says of a table's name whether the table is to be read."""
TypeOf = Callable[[types.TypeEngine[Any]], types.TypeEngine[Any]]
"""Returns the type that a reflected one becomes."""


def reflect_tables(connection: Connection, metadata: MetaData, wanted: Wanted, type_of: TypeOf) -> None:
    """Put the tables and views of the default schema into ``metadata``, with their keys."""

    def choose_type(inspector: Any, table: Table, column: Any) -> None:
        column["type"] = type_of(column["type"])

    event.listen(metadata, "column_reflect", choose_type)
    # Foreign keys lead to models' tables, too, which are not to be read a second time.
    metadata.reflect(connection, only=lambda name, _: wanted(name), views=True, resolve_fks=False)


def point_to(tables: Mapping[str, Table], table: Table) -> None:
    """Let the foreign keys of ``table`` lead to those of ``tables`` that are in another MetaData."""
    for constraint in list(table.foreign_key_constraints):
        names = [element.target_fullname.split(".") for element in constraint.elements]
        target = tables.get(names[0][0])
        if any(len(name) != 2 for name in names) or target is None or target.metadata is table.metadata:
            continue
        columns = [target.c[name] for _, name in names if name in target.c]
        if len(columns) < len(names):
            continue  # The model leaves it out.
        table.constraints.discard(constraint)
        for element in constraint.elements:
            element.parent.foreign_keys.discard(element)
            table.foreign_keys.discard(element)
        here = [element.parent for element in constraint.elements]
        table.append_constraint(ForeignKeyConstraint(here, columns, name=constraint.name))


def generic(kind: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
    """Return SQLAlchemy's own type for a dialect's, so that all databases understand it; NULL's for one without."""
    if isinstance(kind, types.Float):
        return types.Double()
    if isinstance(kind, types.Numeric):
        return types.Numeric(kind.precision, kind.scale)
    if isinstance(kind, types.DateTime):
        return types.DateTime(kind.timezone)
    if isinstance(kind, types.Enum):
        return types.Enum(*kind.enums, native_enum=False)
    if isinstance(kind, types.String) and not isinstance(kind, types.Text):
        return types.String(kind.length)
    made: types.TypeEngine[Any] = kind.as_generic(allow_nulltype=True)
    return made


_JSON_CHECKS = text(
    "SELECT table_name, check_clause FROM information_schema.check_constraints"
    " WHERE constraint_schema = database() AND check_clause LIKE 'json_valid(%'"
)
_JSON_CHECK = re.compile(r"json_valid\(`((?:[^`]|``)+)`\)", re.IGNORECASE)


def restore_json(connection: Connection, metadata: MetaData) -> None:
    """Give MariaDB's JSON columns their type back: they are texts, with a check that it makes for them."""
    for name, clause in connection.execute(_JSON_CHECKS):
        found, table = _JSON_CHECK.fullmatch(clause), metadata.tables.get(name)
        if found and table is not None:
            table.c[found[1].replace("``", "`")].type = types.JSON()
