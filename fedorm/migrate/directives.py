"""What is done to revisions that autogenerate has found, before they are written."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from alembic.operations.ops import CreateTableOp, DowngradeOps, DropIndexOp, DropTableOp, ModifyTableOps, UpgradeOps

from fedorm.migrate.enum_operations import drop_enums


def tidied(context: Any, revision: Any, directives: list[Any]) -> None:
    """Mend what Alembic leaves to be mended by hand.

    Tables are dropped before those that they refer to, and made behind them. An index is not dropped where its table
    is: MySQL refuses that of a foreign key's. The type of an enum is dropped behind its tables.
    """
    tidied_plainly(context, revision, directives)
    for script in directives:
        for upgrade, downgrade in zip(script.upgrade_ops_list, script.downgrade_ops_list, strict=True):
            drop_enums(upgrade, downgrade)


def tidied_or_none(context: Any, revision: Any, directives: list[Any]) -> None:
    """Do the same, and write no revision where nothing has changed."""
    tidied(context, revision, directives)
    if directives and directives[0].upgrade_ops.is_empty():
        directives[:] = []


def tidied_plainly(context: Any, revision: Any, directives: list[Any]) -> None:
    """Do the same with what Alembic by itself can carry out: nothing about enums."""
    for script in directives:
        for operations in (*script.upgrade_ops_list, *script.downgrade_ops_list):
            _tidy(operations)
            operations.ops = _ordered(operations.ops)


def _ordered(operations: list[Any]) -> list[Any]:
    made = {_name(one): one for one in operations if isinstance(one, CreateTableOp)}
    dropped = {_name(one): one for one in operations if isinstance(one, DropTableOp)}
    of_made = [one for one in operations if isinstance(one, ModifyTableOps) and _name(one) in made]
    first = []
    for name in _parents_first(made):
        first += [made[name], *(one for one in of_made if _name(one) == name)]
    drops = iter([dropped[name] for name in _parents_first(dropped)][::-1])
    rest = (one for one in operations if one not in first)
    return first + [next(drops) if isinstance(one, DropTableOp) else one for one in rest]


def _name(operation: Any) -> str:
    return f"{operation.schema}.{operation.table_name}" if operation.schema else str(operation.table_name)


def _parents_first(tables: Mapping[str, Any]) -> list[str]:
    graph = {
        name: sorted({key.target_fullname.rpartition(".")[0] for key in tables[name].to_table().foreign_keys} - {name})
        for name in sorted(tables)
    }
    try:
        return [name for name in TopologicalSorter(graph).static_order() if name in tables]
    except CycleError:
        return list(tables)


def _tidy(operations: UpgradeOps | DowngradeOps) -> None:
    dropped = {(one.schema, one.table_name) for one in operations.ops if isinstance(one, DropTableOp)}

    def goes_with_table(one: Any) -> bool:
        return isinstance(one, DropIndexOp) and (one.schema, one.table_name) in dropped

    kept = []
    for one in operations.ops:
        if isinstance(one, ModifyTableOps):
            one.ops = [inner for inner in one.ops if not goes_with_table(inner)]
            if not one.ops:
                continue
        if not goes_with_table(one):
            kept.append(one)
    operations.ops = kept
