"""Alembic for ClickHouse's engine: its tables with their engines, its way of changing rows, and their comparison."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Any

from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _render_column
from alembic.ddl.base import AddColumn
from alembic.ddl.impl import DefaultImpl
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import AddColumnOp, AlterColumnOp, DropColumnOp, DropTableOp, ModifyTableOps, UpgradeOps
from sqlalchemy import Column, Delete, Insert, MetaData, String, Table, Update, insert
from sqlalchemy.types import TypeEngine
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from fedorm.migrate.errors import MigrationError
from fedorm.stores.clickhouse_schema import (
    Made,
    ModifiedColumn,
    Mutation,
    Native,
    RenamedColumn,
    Shape,
    declared,
    is_mutating,
    native_column,
    present,
    same_engine,
    same_type,
)

__all__ = ["Native"]

STORE = "fedorm_store"
"""The option of ``context.configure()`` that has the service's store."""
DIALECTS = ("clickhouse", "chdb")
PLUGINS = ["alembic.autogenerate.schemas"]
"""Alembic's own comparisons would take each table for another one: its types and keys are said differently there."""
_VERSIONS = "fedorm_versions"
_PATIENCE = 600.0


class ClickHouseImpl(DefaultImpl):
    """ClickHouse servers. Nothing is undone there: a revision that fails half-way has done its first half."""

    __dialect__ = "clickhouse"
    transactional_ddl = False

    @property
    def _store(self) -> Any:
        return self.context_opts[STORE]

    def version_table_impl(
        self, *, version_table: str, version_table_schema: str | None, version_table_pk: bool, **more: Any
    ) -> Table:
        """Return a table without a key: what is in a key cannot be updated."""
        table = Table(version_table, MetaData(), Column("version_num", String, nullable=False))
        made: Table = self._store.native_tables([table]).tables[version_table]
        made.info[_VERSIONS] = True
        return made

    def _exec(self, construct: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(construct, Update | Delete):
            mutation = Mutation(construct)
            super()._exec(mutation, *arguments, **options)
            if not self.as_sql:
                self._wait(mutation.table.name)
            return None  # It is not known how many rows there were.
        if isinstance(construct, Insert) and _is_of_versions(construct) and not self.as_sql:
            (value,) = (construct._values or {}).values()
            assert self.connection is not None
            # The native protocol takes values alone, and Alembic gives an expression.
            return self.connection.execute(insert(construct.table), [{"version_num": str(value).strip("'")}])
        return super()._exec(construct, *arguments, **options)

    def _wait(self, table: str) -> None:
        until = time.monotonic() + _PATIENCE
        assert self.connection is not None
        while is_mutating(self.connection, table):
            if time.monotonic() > until:
                raise MigrationError(
                    f"service {self._store.service!r}: the server has not changed the rows of {table} within "
                    f"{_PATIENCE:g} s: see system.mutations there"
                )
            await_only(asyncio.sleep(0.05)) if in_greenlet() else time.sleep(0.05)

    def create_table(self, table: Table, **options: Any) -> None:
        """Make a table as the store itself would: a MergeTree by its primary key."""
        (made,) = declared(self._store, [table], self.dialect).values()
        self._exec(Made.of(table.name, list(table.columns), made.engine, self._store, self.dialect))

    def add_column(self, table_name: str, column: Column[Any], **options: Any) -> None:
        """Add a column in the server's own type."""
        self._exec(AddColumn(table_name, native_column(column, self._store, self.dialect)))

    def alter_column(
        self,
        table_name: str,
        column_name: str,
        *,
        nullable: bool | None = None,
        server_default: Any = False,
        name: str | None = None,
        type_: TypeEngine[Any] | None = None,
        existing_type: TypeEngine[Any] | None = None,
        existing_nullable: bool | None = None,
        existing_server_default: Any = None,
        **more: Any,
    ) -> None:
        """Change a column's type, default or name."""
        table, kind = Table(table_name, MetaData()), type_ or existing_type
        if type_ is not None or nullable is not None or server_default is not False:
            if kind is None:
                raise MigrationError(f"{table_name}.{column_name}: say its type, with  existing_type=...")
            may_be_null = nullable if nullable is not None else existing_nullable
            default = existing_server_default if server_default is False else server_default
            given = None if default is False else default
            column: Column[Any] = Column(column_name, kind, nullable=bool(may_be_null), server_default=given)
            self._exec(ModifiedColumn(table, native_column(column, self._store, self.dialect)))
        if name is not None:
            self._exec(RenamedColumn(table, column_name, name))


def _is_of_versions(construct: Insert) -> bool:
    return isinstance(construct.table, Table) and _VERSIONS in construct.table.info


class ChDBImpl(ClickHouseImpl):
    """ClickHouse's engine in this process."""

    __dialect__ = "chdb"


# -- operations


@Operations.register_operation("create_clickhouse_table")
class CreateClickHouseTableOp(MigrateOperation):
    """Makes a table with an engine."""

    def __init__(self, name: str, columns: Sequence[Column[Any]], engine: str) -> None:
        self.name, self.columns, self.engine = name, list(columns), engine

    @classmethod
    def create_clickhouse_table(cls, operations: Operations, name: str, *columns: Column[Any], engine: str) -> None:
        """Make a table.

        Columns have ClickHouse's own types, as ``Native("LowCardinality(String)")``, or SQLAlchemy's, which become
        what they are in tables that the store makes. ``engine`` is what the server is told behind ``ENGINE =``:
        ``"MergeTree() PARTITION BY toYYYYMM(at) ORDER BY (user_id, at)"``.
        """
        operations.invoke(cls(name, columns, engine))

    @classmethod
    def of(cls, shape: Shape) -> CreateClickHouseTableOp:
        """Make the operation that makes a table as it is."""
        return cls(shape.name, shape.made_of, shape.engine)

    def reverse(self) -> MigrateOperation:
        """Return what drops it."""
        return DropClickHouseTableOp(self)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``check`` reports."""
        return ("add_table", Table(self.name, MetaData()))


class DropClickHouseTableOp(DropTableOp):
    """``op.drop_table()``, which knows what it has dropped."""

    def __init__(self, creation: CreateClickHouseTableOp) -> None:
        super().__init__(creation.name)
        self.creation = creation

    def reverse(self) -> Any:
        """Return what makes it."""
        return self.creation

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``check`` reports."""
        return ("remove_table", Table(self.table_name, MetaData()))


class OtherEngineOp(MigrateOperation):
    """Stands for an engine that is another one than in the models, which no statement changes."""

    def __init__(self, table: str, there: str, wanted: str) -> None:
        self.table, self.there, self.wanted = table, there, wanted

    def reverse(self) -> MigrateOperation:
        """Return the same for the way back."""
        return OtherEngineOp(self.table, self.wanted, self.there)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``check`` reports."""
        return ("modify_engine", self.table, self.there, self.wanted)


@Operations.implementation_for(CreateClickHouseTableOp)
def _create(operations: Operations, operation: CreateClickHouseTableOp) -> None:
    context = operations.get_context()
    store = context.opts[STORE]
    operations.execute(Made.of(operation.name, operation.columns, operation.engine, store, context.dialect))


@renderers.dispatch_for(CreateClickHouseTableOp)
def _render_create(context: AutogenContext, operation: CreateClickHouseTableOp) -> str:
    columns = [str(_render_column(one, context)) for one in operation.columns]
    lines = [repr(operation.name), *columns, f"engine={operation.engine!r}"]
    prefix = context.opts.get("alembic_module_prefix") or ""
    return f"{prefix}create_clickhouse_table(\n{''.join(f'    {line},{chr(10)}' for line in lines)})"


@renderers.dispatch_for(OtherEngineOp)
def _render_other_engine(context: AutogenContext, operation: OtherEngineOp) -> str:
    what = (
        f"{operation.table} has the engine {operation.there}, and is to have {operation.wanted}: make a table with "
        f"that, copy the rows, and exchange the names"
    )
    return f"raise NotImplementedError(\n    {what!r}\n)"


# -- comparison


def _compare(context: AutogenContext, upgrade: UpgradeOps, schemas: Collection[str | None]) -> None:
    """Find what differs between the models' tables and the database's."""
    connection = context.connection
    assert connection is not None
    wanted = declared(context.opts[STORE], context.sorted_tables, connection.dialect)
    version_table = context.migration_context.version_table
    there = {
        name: one
        for name, one in present(connection).items()
        if name != version_table and context.run_name_filters(name, "table", {"schema_name": None})
    }
    for name in sorted(wanted.keys() - there.keys()):
        upgrade.ops.append(CreateClickHouseTableOp.of(wanted[name]))
    for name in sorted(there.keys() - wanted.keys()):
        upgrade.ops.append(DropClickHouseTableOp(CreateClickHouseTableOp.of(there[name])))
    for name in sorted(wanted.keys() & there.keys()):
        changes = _changes(wanted[name], there[name])
        if changes:
            upgrade.ops.append(ModifyTableOps(name, changes))
        if not same_engine(wanted[name].engine, there[name].engine):
            upgrade.ops.append(OtherEngineOp(name, there[name].engine, wanted[name].engine))


def _changes(wanted: Shape, there: Shape) -> list[MigrateOperation]:
    changes: list[MigrateOperation] = []
    for column in wanted.made_of:
        name, kind = column.name, wanted.columns[column.name]
        if name not in there.columns:
            changes.append(AddColumnOp(wanted.name, column))
        elif not same_type(kind, there.columns[name]):
            changes.append(
                AlterColumnOp(
                    wanted.name,
                    name,
                    existing_type=Native(there.columns[name]),
                    existing_nullable=False,
                    # Old servers take it away with a change of the type that does not repeat it.
                    existing_server_default=column.server_default if column.server_default is not None else False,
                    modify_type=Native(kind),
                )
            )
    for column in there.made_of:
        if column.name not in wanted.columns:
            changes.append(DropColumnOp(wanted.name, column.name, _reverse=AddColumnOp(wanted.name, column)))
    return changes


for _dialect in DIALECTS:
    comparators.dispatch_for("schema", qualifier=_dialect)(_compare)
