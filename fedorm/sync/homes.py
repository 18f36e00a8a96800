"""Where a rule's account, its position and its dead letters are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fedorm.stores.base import Capability, DocumentStore, Store
from fedorm.stores.sql import SQLStore
from fedorm.sync.errors import SyncRuleError
from fedorm.sync.positions import Positions, SQLPositions, StorePositions
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.strategies import CDC


def home_of(rule: ResolvedRule, stores: Mapping[str, Store]) -> SQLStore:
    """Return the service that keeps account of a rule: a SQL one with transactions, the source's own if it is one.

    Raises ``SyncRuleError`` for a federation that has none.
    """
    for name in (rule.source.service, rule.target.service, *sorted(stores)):
        store = stores[name]
        if isinstance(store, SQLStore) and Capability.TRANSACTIONS in store.capabilities:
            return store
    raise SyncRuleError(
        f"sync rule {rule.name!r}: who carries it out has to be kept in a SQL database with transactions, and no "
        f"service of the federation has one: add a service, SQLite is enough"
    )


def positions_of(rule: ResolvedRule, stores: Mapping[str, Store]) -> Positions:
    """Return where a rule's position is: beside what it writes, if both can be one transaction.

    That of a rule that goes through a broker says how far it was published, and is where the rule's account is.
    """
    if rule.through is not None:
        return SQLPositions(rule.name, home_of(rule, stores), within=False)
    return _beside_target(rule.name, rule, stores)


def partition_positions(rule: ResolvedRule, partition: int, stores: Mapping[str, Store]) -> Positions:
    """Return where it is kept how far a partition of such a rule was written: always beside the target."""
    assert isinstance(rule.strategy, CDC)
    return _beside_target(f"{rule.name}#{rule.strategy.partitions}.{partition}", rule, stores)


def fences_of(rule: ResolvedRule, partitions: Iterable[int], stores: Mapping[str, Store]) -> dict[int, Positions]:
    """Return where a target keeps which relay was the last to write events of a partition of the source's outbox.

    None where the target has no transactions, in which that and the rows would be one.
    """
    if Capability.TRANSACTIONS not in stores[rule.target.service].capabilities:
        return {}
    return {number: _beside_target(f"{rule.name}@{number}", rule, stores) for number in sorted(partitions)}


def _beside_target(name: str, rule: ResolvedRule, stores: Mapping[str, Store]) -> Positions:
    target = stores[rule.target.service]
    if isinstance(target, SQLStore) and Capability.TRANSACTIONS in target.capabilities:
        return SQLPositions(name, target, within=True)
    log = target.positions() if isinstance(target, DocumentStore) else None
    if log is not None:
        return StorePositions(name, log)
    return SQLPositions(name, home_of(rule, stores), within=False)
