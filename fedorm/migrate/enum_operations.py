"""An operation that drops the type of an enum: PostgreSQL keeps it when the last table that used it is dropped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import CreateTableOp, DowngradeOps, DropTableOp, UpgradeOps
from sqlalchemy import Enum, TypeDecorator
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
        kind = getattr(column, "type", None)
        while isinstance(kind, TypeDecorator):
            kind = kind.impl_instance
        if isinstance(kind, Enum) and kind.native_enum and kind.name:
            yield kind.name, kind.schema
