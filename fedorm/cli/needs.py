"""What the models and rules of a federation need of each service, as far as can be said without asking one."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table

from fedorm.catalog import catalog
from fedorm.federation import Federation
from fedorm.outbox.rules import has_outbox
from fedorm.outbox.tables import fedorm_outbox, fedorm_outbox_deliveries, fedorm_outbox_partitions
from fedorm.stores.base import collection_name
from fedorm.stores.findings import Needs
from fedorm.sync.homes import home_of
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.shapes import Side
from fedorm.sync.strategies import RealTime
from fedorm.sync.tables import fedorm_sync_dead_letters, fedorm_sync_positions, fedorm_sync_rules
from fedorm.twophase.decisions import fedorm_decisions


def needs_of(
    federation: Federation, rules: Iterable[ResolvedRule], *, two_phase: bool, histories: Iterable[str]
) -> dict[str, Needs]:
    """Return the needs of each service; ``histories`` are those with migrations, which are compared by these."""
    rules, compared = list(rules), set(histories)
    needs = {}
    for name, store in federation.stores.items():
        sides = [side for rule in rules for side in (rule.source, rule.target) if side.service == name]
        targets = [rule.target for rule in rules if rule.target.service == name]
        tables = [*catalog.metadata(name).tables.values(), *(side.whole.table for side in sides)]
        needs[name] = Needs(
            tables=tuple(dict.fromkeys(table for table in tables if table is not None)),
            documents=tuple(catalog.documents(name)),
            own=tuple(_own(federation, name, rules, two_phase=two_phase)) if store.keeps_own else (),
            written=frozenset(map(_place, targets)),
            woken=frozenset(_place(rule.source) for rule in rules if rule.source.service == name and _is_woken(rule)),
            two_phase=two_phase,
            transactions="the outbox of its models" if has_outbox(name) else None,
            compares=name not in compared,
        )
    return needs


def _own(federation: Federation, service: str, rules: Iterable[ResolvedRule], *, two_phase: bool) -> Iterable[Table]:
    """Return the tables of fedorm's own that it needs in a service; collections have the same names."""
    if two_phase:
        yield fedorm_decisions(service)
    if has_outbox(service):
        yield from (one(service) for one in (fedorm_outbox, fedorm_outbox_deliveries, fedorm_outbox_partitions))
    homes = {home_of(rule, federation.stores).service for rule in rules}
    if service in homes:
        yield from (one(service) for one in (fedorm_sync_rules, fedorm_sync_dead_letters))
    if service in homes or any(rule.target.service == service for rule in rules):
        yield fedorm_sync_positions(service)


def _is_woken(rule: ResolvedRule) -> bool:
    return isinstance(rule.strategy, RealTime) and rule.strategy.notify


def _place(side: Side) -> str:
    table, document = side.whole.table, side.whole.document
    return table.name if table is not None else collection_name(document) if document is not None else side.label
