"""Types of enums, which PostgreSQL has beside its tables: an operation that drops one, and their values compared.

It keeps a type when the last table that used it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import CreateTableOp, DowngradeOps, DropTableOp, UpgradeOps
from sqlalchemy import ARRAY, Connection, Enum, MetaData, TypeDecorator, inspect
from sqlalchemy.dialects.postgresql import ENUM, DropEnumType


@Operations.register_operation("drop_enum")
class DropEnumOp(MigrateOperation):
    """Drops a type."""

    def __init__(self, name: str, schema: str | None = None) -> None:
        self.name, self.schema = name, schema

    @classmethod
    def drop_enum(cls, operations: Operations, name: str, *, schema: str | None = None) -> None:
        """Drop the type of an enum, once no table uses it any more; does nothing where enums are no types."""
        operations.invoke(cls(name, schema))


@Operations.implementation_for(DropEnumOp)
def _drop(operations: Operations, operation: DropEnumOp) -> None:
    if operations.get_context().dialect.name == "postgresql":
        operations.execute(DropEnumType(ENUM(name=operation.name, schema=operation.schema)))


@renderers.dispatch_for(DropEnumOp)
def _render(context: AutogenContext, operation: DropEnumOp) -> str:
    schema = f", schema={operation.schema!r}" if operation.schema is not None else ""
    return f"{context.opts.get('alembic_module_prefix') or ''}drop_enum({operation.name!r}{schema})"


def drop_enums(upgrade: UpgradeOps, downgrade: DowngradeOps) -> None:
    """Let each side drop the enums of the tables that it drops, where the other one makes them."""
    there = {one: (one.schema, one.table_name) for one in downgrade.ops if isinstance(one, DropTableOp)}
    names = dict.fromkeys(
        name
        for made in upgrade.ops
        if isinstance(made, CreateTableOp) and (made.schema, made.table_name) in there.values()
        for name in _enums(made.columns)
    )
    downgrade.ops.extend(DropEnumOp(*name) for name in names)


def _enums(columns: Iterable[Any]) -> Iterator[tuple[str, str | None]]:
    for column in columns:
        kind = _bare(getattr(column, "type", None))
        if isinstance(kind, Enum) and kind.native_enum and kind.name:
            yield kind.name, kind.schema


def compared_enums(connection: Connection, metadata: Iterable[MetaData]) -> Iterator[tuple[str, str]]:
    """Return pairs of a table and what is different in the values of its enums, where they are types of their own."""
    if connection.dialect.name != "postgresql":
        return
    inspector: Any = inspect(connection)
    default = inspector.default_schema_name
    there = {(one["schema"], one["name"]): one["labels"] for one in inspector.get_enums(schema="*")}
    for table in (table for one in metadata for table in one.sorted_tables):
        for column in table.columns:
            kind = _bare(column.type)
            if not isinstance(kind, Enum) or not kind.native_enum:
                continue
            labels = there.get((kind.schema or default, kind.name))
            if labels is not None and labels != kind.enums:
                has, wanted = ", ".join(labels), ", ".join(kind.enums)
                yield table.fullname, f"column {column.name} takes {has}, and {wanted} in the models"


def _bare(kind: Any) -> Any:
    """Return what a type is held as; of an array, the type of what is in it."""
    while isinstance(kind, TypeDecorator | ARRAY):
        kind = kind.item_type if isinstance(kind, ARRAY) else kind.impl_instance
    return kind
