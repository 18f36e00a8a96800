"""A whole service's tables kept in another service, for a move to another database: a rule a table."""

from __future__ import annotations

from sqlalchemy import Table

from fedorm.catalog import catalog
from fedorm.sync.errors import SyncRuleError
from fedorm.sync.rule import SyncRule, declare
from fedorm.sync.strategies import CDC, Strategy


def copy_service(service: str, *, to: str, strategy: Strategy | None = None, back: bool = False) -> list[SyncRule]:
    """Declare a rule for each table of a service that keeps its rows in the same table of the service ``to``.

    ``service`` is that of models that were imported; ``to`` needs none: its tables are the same. The rules are called
    as what they read, ``users.addresses``, write ``as_replica``, and follow the log unless ``strategy`` says
    otherwise. With ``back`` they lead the other way, from ``to`` to ``service``, for the time after the move.
    Raises ``SyncRuleError`` for a service without tables.
    """
    tables = list(catalog.metadata(service).tables.values())
    if not tables:
        raise SyncRuleError(f"copy_service({service!r}, to={to!r}): import the models of {service!r} before")
    rules = []
    for table in tables:
        source, target = (_twin(table, to), table) if back else (table, _twin(table, to))
        name = f"{to if back else service}.{table.fullname}"
        rules.append(SyncRule(source=source, to=target, strategy=strategy or CDC(), name=name, as_replica=True))
    for rule in rules:
        declare(rule)
    return rules


def _twin(table: Table, service: str) -> Table:
    metadata = catalog.metadata(service)
    there = metadata.tables.get(table.key)
    return there if there is not None else table.to_metadata(metadata)
