"""What is done to revisions that autogenerate has found, before they are written."""

from __future__ import annotations

from typing import Any

from alembic.operations.ops import DowngradeOps, DropIndexOp, DropTableOp, ModifyTableOps, UpgradeOps

from fedorm.migrate.enum_operations import drop_enums


def tidied(context: Any, revision: Any, directives: list[Any]) -> None:
    """Mend what Alembic leaves to be mended by hand.

    An index is not dropped where its table is: MySQL refuses that of a foreign key's. The type of an enum is dropped
    behind its tables.
    """
    for script in directives:
        for upgrade, downgrade in zip(script.upgrade_ops_list, script.downgrade_ops_list, strict=True):
            drop_enums(upgrade, downgrade)
        for operations in (*script.upgrade_ops_list, *script.downgrade_ops_list):
            _tidy(operations)


def tidied_or_none(context: Any, revision: Any, directives: list[Any]) -> None:
    """Do the same, and write no revision where nothing has changed."""
    tidied(context, revision, directives)
    if directives and directives[0].upgrade_ops.is_empty():
        directives[:] = []


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
