"""Which rules a federation has, and whether they can work on its servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Table, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import configure_mappers
from sqlalchemy.util import greenlet_spawn

from fedorm.catalog import owner_of, service_of
from fedorm.outbox.services import refusal_of
from fedorm.stores.base import Capability, Store
from fedorm.stores.findings import Finding
from fedorm.stores.sql import SQLStore
from fedorm.sync.errors import SyncRuleError
from fedorm.sync.homes import home_of
from fedorm.sync.related import links_of
from fedorm.sync.resolving import ResolvedRule, check_circles, resolved
from fedorm.sync.rule import SyncRule, declared_rules
from fedorm.sync.strategies import CDC, Batch, EventDriven, RealTime

if TYPE_CHECKING:
    from fedorm.federation import Federation
    from fedorm.sync.sync import Sync


def resolved_rules(federation: Federation, added: Sequence[SyncRule]) -> dict[str, ResolvedRule]:
    """Return the rules between services of a federation. Raises ``SyncRuleError`` for the first that cannot be."""
    rules: dict[str, ResolvedRule] = {}
    wanted = [*declared_rules(), *added]
    if wanted:
        configure_mappers()
    for declared in wanted:
        if _source_service(declared) not in federation.stores:
            continue
        rule = resolved(declared, federation.tables)
        if rule.target.service not in federation.stores:
            continue
        if rule.name in rules:
            raise SyncRuleError(f'two sync rules have the name {rule.name!r}: give one another name,  name="..."')
        _check(federation, rule)
        rules[rule.name] = rule
    check_circles(list(rules.values()))
    _check_deletes(list(rules.values()))
    return rules


def _source_service(rule: SyncRule) -> str | None:
    source = rule.source
    if isinstance(source, str):
        return source.partition(".")[0]
    return service_of(source) if hasattr(source, "__service__") else owner_of(source)


def _check(federation: Federation, rule: ResolvedRule) -> None:
    """Say what can be said without asking a server: what one ``may_have`` is asked afterwards."""
    source, target = federation.stores[rule.source.service], federation.stores[rule.target.service]
    strategy, problem = rule.strategy, f"sync rule {rule.name!r}: "
    home_of(rule, federation.stores)
    links_of(rule, federation.tables)
    if Capability.UPDATES not in target.capabilities and rule.mapping.target.version is None:
        raise SyncRuleError(
            f"{problem}service {target.service!r} can only be appended to, so that {rule.target.label} needs columns "
            f"that say which row counts: let it inherit  fedorm.sync.Replacing"
        )
    unfilled = _unfilled(target, rule)
    if unfilled:
        raise SyncRuleError(
            f"{problem}nothing fills {rule.target.label}.{unfilled[0]}, which cannot be NULL and has no default: name "
            f"the source's field for it in  fields,  make it with  transform=,  or say that the database does,  "
            f"server_default=FetchedValue()"
        )
    if isinstance(strategy, CDC) and Capability.CHANGE_FEED not in source.capabilities | source.may_have:
        raise SyncRuleError(
            f"{problem}service {source.service!r} at {source.address} {source.no_feed}: use RealTime() or Batch()"
        )
    changed = strategy.changed if isinstance(strategy, Batch | RealTime) else None
    if changed is not None and changed not in rule.source.whole.fields:
        raise SyncRuleError(f"{problem}changed={changed!r}: {rule.source.label} does not have that")
    if isinstance(strategy, EventDriven):
        model = rule.source.model
        if model is None:
            raise SyncRuleError(f"{problem}EventDriven() follows the events of a model: {rule.source.label} has none")
        if rule.declared.load:
            raise SyncRuleError(f"{problem}EventDriven() hears of the model's own rows alone: load= goes with CDC()")
        refusal = refusal_of(source, [model])
        if refusal is not None and Capability.TRANSACTIONS not in source.may_have:
            raise SyncRuleError(f"{problem}{refusal}")


def _unfilled(target: Store, rule: ResolvedRule) -> list[str]:
    """Return the fields without which no row can be inserted; ClickHouse has a default for every column."""
    if not isinstance(target, SQLStore) or Capability.UPDATES not in target.capabilities:
        return []
    written = rule.mapping.target.fields
    return [
        name
        for name, column in rule.target.whole.columns.items()
        if not column.nullable
        and name not in written
        and column.default is None
        and column.server_default is None
        and column is not column.table.autoincrement_column
    ]


def _check_deletes(rules: Sequence[ResolvedRule]) -> None:
    """Refuse rules that would delete each other's rows."""
    by_target: dict[object, list[ResolvedRule]] = {}
    for rule in rules:
        by_target.setdefault(rule.target.place, []).append(rule)
    for several in by_target.values():
        if len(several) < 2:
            continue
        looking = [rule for rule in several if _looks_for_deletes(rule) and not rule.declared.owns]
        if looking:
            names = ", ".join(repr(rule.name) for rule in several)
            raise SyncRuleError(
                f"sync rules {names} write to {several[0].target.label}, and {looking[0].name!r} would remove there "
                f"what its own source does not have: give it  detect_deletes=False, or say which rows there are its "
                f"own,  owns={{...}}"
            )


def _looks_for_deletes(rule: ResolvedRule) -> bool:
    strategy = rule.strategy
    if rule.declared.on_delete == "ignore":
        return False
    if isinstance(strategy, Batch):
        return strategy.detect_deletes
    return isinstance(strategy, RealTime) and strategy.detect_deletes is not None


async def _is_there(sync: Sync, rule: ResolvedRule) -> bool:
    """Say whether the source's table was made yet: a federation is also opened to make its tables."""
    whole, store = rule.source.whole, sync.store(rule.source.service)
    if whole.table is None or not isinstance(store, SQLStore):
        return True
    table: Table = whole.table

    def ask() -> bool:
        with store.engine.connect() as connection:
            try:
                return inspect(connection).has_table(table.name, schema=table.schema)
            except DBAPIError:  # The user may not know; what the feed says is said of that, too.
                return True

    return await greenlet_spawn(ask)


async def findings_of(sync: Sync, rule: ResolvedRule) -> list[Finding]:
    """Return what stands against a rule on its servers."""
    return [*await _at_source(sync, rule), *await _at_target(sync, rule)]


async def _at_source(sync: Sync, rule: ResolvedRule) -> list[Finding]:
    store, model = sync.store(rule.source.service), rule.source.model
    if isinstance(rule.strategy, EventDriven) and model is not None:
        refusal = refusal_of(store, [model])
        return [] if refusal is None else [Finding(str(refusal), "")]
    if not isinstance(rule.strategy, CDC) or not await _is_there(sync, rule):
        return []
    return [*await sync.feed(rule).findings(), *await sync.untold(rule)]


async def _at_target(sync: Sync, rule: ResolvedRule) -> list[Finding]:
    store = sync.store(rule.target.service)
    if not rule.declared.as_replica or not isinstance(store, SQLStore):
        return []

    def ask() -> list[Finding]:
        with store.engine.connect() as connection:
            return store.replica_findings(connection)

    return await greenlet_spawn(ask)


async def check_server(sync: Sync, rule: ResolvedRule) -> list[str]:
    """Return the same as sentences that name the rule."""
    return [f"sync rule {rule.name!r}: {finding}" for finding in await findings_of(sync, rule)]
