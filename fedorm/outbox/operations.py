"""Alembic's operations for the triggers of an outbox: ``import fedorm.outbox.operations`` in ``env.py`` brings them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _repr_type
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import CreateIndexOp, DropIndexOp, ModifyTableOps, UpgradeOps
from alembic.util import DispatchPriority
from sqlalchemy import Column, Interval, MetaData, Table, TypeDecorator
from sqlalchemy.types import TypeEngine

from fedorm.bookkeeping import is_own
from fedorm.catalog import owner_of
from fedorm.outbox.rules import CHANGES, Change
from fedorm.outbox.triggers.capture import Capture, has_triggers, number_of
from fedorm.outbox.triggers.captures import captures
from fedorm.outbox.triggers.ddl import creation, removal
from fedorm.outbox.triggers.installed import installed, stale


@Operations.register_operation("create_outbox_triggers")
class CreateOutboxTriggersOp(MigrateOperation):
    """Makes the triggers of one table, or makes them anew."""

    def __init__(self, capture: Capture, replaces_unknown: bool = False) -> None:
        self.capture, self.replaces_unknown = capture, replaces_unknown

    @classmethod
    def create_outbox_triggers(
        cls,
        operations: Operations,
        table: str,
        *columns: Column[Any],
        types: Mapping[Change, str],
        values: Collection[str] | None = None,
        key: Collection[str] | None = None,
        names: Mapping[str, Mapping[str, str]] | None = None,
        number: int = 1,
        schema: str | None = None,
    ) -> None:
        """Let every insert, update and delete of a table's rows write an event, whoever makes it.

        ``columns`` are those that the triggers read; those with ``primary_key=True`` are the event's ``key``.
        ``types`` has the type of event for each of "insert", "update" and "delete"; a change that it leaves out makes
        none. ``values`` names the columns whose values are in the event, all without it; ``key`` those of which the
        ordering key is made, without it the primary key; ``names`` has, of enums whose members are held as something
        else than their names, the name for what is held; ``number`` tells several for one table apart. Triggers that
        are there already are made anew, as they have to be after a change of the table's columns.
        """
        copied = [Column(one.name, one.type, key=one.key, primary_key=one.primary_key) for one in columns]
        made = Table(table, MetaData(), *copied, schema=schema)
        operations.invoke(cls(Capture.of(made, types=types, values=values, key=key, names=names, number=number)))

    def reverse(self) -> MigrateOperation:
        """Return what drops them; where there were others before, with a note to make those."""
        if self.replaces_unknown:
            return DropOutboxTriggersOp(_unknown(self.capture.table, self.capture.number), True)
        return DropOutboxTriggersOp(self.capture)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` reports."""
        return ("create_outbox_triggers", self.capture.table.fullname)


@Operations.register_operation("drop_outbox_triggers")
class DropOutboxTriggersOp(MigrateOperation):
    """Drops the triggers of one table."""

    def __init__(self, capture: Capture, stands_for_unknown: bool = False) -> None:
        self.capture, self.stands_for_unknown = capture, stands_for_unknown

    @classmethod
    def drop_outbox_triggers(
        cls, operations: Operations, table: str, *, number: int = 1, schema: str | None = None
    ) -> None:
        """Let the changes of a table's rows write no more events; does nothing where there are no triggers."""
        operations.invoke(cls(_unknown(Table(table, MetaData(), schema=schema), number)))

    def reverse(self) -> MigrateOperation:
        """Return what makes them; where it is not known what they were, what leaves a note to write it there."""
        return CreateOutboxTriggersOp(self.capture) if self.capture.types else DropOutboxTriggersOp(self.capture, True)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` reports."""
        return ("drop_outbox_triggers", self.capture.table.fullname)


@Operations.implementation_for(CreateOutboxTriggersOp)
def _create(operations: Operations, operation: CreateOutboxTriggersOp) -> None:
    capture, dialect = operation.capture, operations.get_context().dialect
    for change in CHANGES:
        if change in capture.changes:
            elements = creation(capture, change, dialect)
        else:
            elements = removal(capture.table, capture.name(change), dialect)
        for element in elements:
            operations.execute(element)


@Operations.implementation_for(DropOutboxTriggersOp)
def _drop(operations: Operations, operation: DropOutboxTriggersOp) -> None:
    capture = operation.capture
    for change in CHANGES:
        for element in removal(capture.table, capture.name(change), operations.get_context().dialect):
            operations.execute(element)


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST)
def _compare(context: AutogenContext, upgrade: UpgradeOps, schemas: Collection[str | None]) -> None:
    """Find the triggers that the models' rules want and the database has not, after the tables were compared."""
    connection = context.connection
    if connection is None or not has_triggers(connection.dialect):
        return
    wanted: dict[Table, Sequence[Capture]] = {}
    for service in {owner_of(table) for table in context.sorted_tables} - {None}:
        wanted.update(captures(str(service)))
    lost = _made_anew(upgrade) if connection.dialect.name == "sqlite" else set()
    first: list[MigrateOperation] = []
    for table in context.sorted_tables:
        if owner_of(table) is None or is_own(table.name):
            continue
        rules = {capture.number: capture for capture in wanted.get(table, ())}
        there = {number_of(name) for name in installed(connection, table)}
        wrong = {number_of(name) for name in stale(connection, table, list(rules.values()))}
        is_lost = (table.schema, table.name) in lost
        for number in sorted(wrong | there if is_lost else wrong):
            replaces = number in there and not is_lost
            if number in there and (is_lost or number not in rules):
                # Before the table is changed, so that the downgrade makes them when it is as it was.
                known = number in rules and number not in wrong
                (first if is_lost else upgrade.ops).append(
                    DropOutboxTriggersOp(rules[number] if known else _unknown(table, number))
                )
            if number in rules:
                upgrade.ops.append(CreateOutboxTriggersOp(rules[number], replaces))
    upgrade.ops[:0] = first


def _made_anew(upgrade: UpgradeOps) -> set[tuple[str | None, str]]:
    """Return the tables, by schema and name, that a batch drops and makes anew, without their triggers."""
    return {
        (change.schema, change.table_name)
        for change in upgrade.ops
        if isinstance(change, ModifyTableOps)
        if any(not isinstance(one, CreateIndexOp | DropIndexOp) for one in change.ops)
    }


def _unknown(table: Table, number: int) -> Capture:
    """Return what stands for triggers of which only the place is known."""
    return Capture.of(table, types={}, number=number)


@renderers.dispatch_for(CreateOutboxTriggersOp)
def _render_create(context: AutogenContext, operation: CreateOutboxTriggersOp) -> str:
    capture = operation.capture
    prefixes = {name: str(context.opts.get(f"{name}_prefix") or "") for name in ("alembic_module", "sqlalchemy_module")}
    arguments = [repr(capture.table.name)]
    for column in capture.table.columns:
        options = [repr(column.name), _repr_type(plain_type(column.type, context), context)]
        options += [f"key={column.key!r}"] if column.key != column.name else []
        options += ["primary_key=True"] if column.primary_key else []
        arguments.append(f"{prefixes['sqlalchemy_module']}Column({', '.join(options)})")
    arguments.append(f"types={dict(capture.types)!r}")
    if set(capture.values) != set(capture.table.columns):
        arguments.append(f"values={[column.key for column in capture.values]!r}")
    if capture.ordering != tuple(capture.table.primary_key.columns):
        arguments.append(f"key={[column.key for column in capture.ordering]!r}")
    if capture.names:
        arguments.append(f"names={ {column: dict(names) for column, names in capture.names.items()}!r}")
    return _call(f"{prefixes['alembic_module']}create_outbox_triggers", arguments + _which(capture))


@renderers.dispatch_for(DropOutboxTriggersOp)
def _render_drop(context: AutogenContext, operation: DropOutboxTriggersOp) -> str:
    arguments = [repr(operation.capture.table.name), *_which(operation.capture)]
    note = "# Make here the triggers of the revision before: the database does not say what they were made of.\n"
    prefix = f"{note if operation.stands_for_unknown else ''}{context.opts.get('alembic_module_prefix') or ''}"
    return f"{prefix}drop_outbox_triggers({', '.join(arguments)})"


def plain_type(kind: TypeEngine[Any], context: AutogenContext) -> TypeEngine[Any]:
    """Return what a model's own type is held as, so that a revision outlives the model."""
    while isinstance(kind, TypeDecorator) and not isinstance(kind, Interval) and context.dialect is not None:
        kind = kind.load_dialect_impl(context.dialect)
    return kind


def _which(capture: Capture) -> list[str]:
    number = [f"number={capture.number!r}"] if capture.number != 1 else []
    return number + ([f"schema={capture.table.schema!r}"] if capture.table.schema is not None else [])


def _call(function: str, arguments: list[str]) -> str:
    lines = "".join(f"    {argument},\n" for argument in arguments)
    return f"{function}(\n{lines})"
