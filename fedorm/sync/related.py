"""Rows that are built from several models: loading what belongs to a row, and finding the rows that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping as Names
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Table, select
from sqlalchemy.orm import InstrumentedAttribute, RelationshipProperty
from sqlalchemy.util import greenlet_spawn

from fedorm.options import federated_load
from fedorm.relationship import FederatedAttribute
from fedorm.stores.base import DocumentStore, Store, batches
from fedorm.stores.feeds import Change
from fedorm.stores.rows import Key, RowShape
from fedorm.stores.sql import SQLStore
from fedorm.sync.errors import SyncRuleError
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.shapes import Side, side_of

if TYPE_CHECKING:
    from fedorm.federation import Federation


@dataclass(frozen=True, slots=True)
class Link:
    """One loaded relationship: which fields of the rule's source equal which of the related model's."""

    attribute: str
    related: Side
    local: tuple[str, ...]
    remote: tuple[str, ...]

    @property
    def shape(self) -> RowShape:
        """What of the related rows is read: what they are found by, and everything else, whose change counts."""
        return self.related.whole


def links_of(rule: ResolvedRule, tables: Names[str, Table]) -> list[Link]:
    """Return the relationships that a rule loads. Raises ``SyncRuleError`` for one that leads over a third table."""
    return [_link(rule, name, tables) for name in rule.declared.load]


def _link(rule: ResolvedRule, what: Any, tables: Names[str, Table]) -> Link:
    model = rule.source.model
    key = what if isinstance(what, str) else str(what.key)
    attribute = getattr(model, key, None)
    problem = f"sync rule {rule.name!r}: load={key!r}"
    if isinstance(attribute, FederatedAttribute):
        hop = attribute.hop
        if hop.secondary is not None:
            raise SyncRuleError(f"{problem} leads over a third table, whose changes nothing would tell of")
        return Link(key, side_of(hop.target, tables, rule=rule.name), hop.local, hop.remote)
    if isinstance(attribute, InstrumentedAttribute) and isinstance(attribute.property, RelationshipProperty):
        prop = attribute.property
        if prop.secondary is not None:
            raise SyncRuleError(f"{problem} leads over a third table, whose changes nothing would tell of")
        mine, theirs = prop.parent, prop.mapper
        pairs = [
            (mine.get_property_by_column(one).key, theirs.get_property_by_column(other).key)
            for one, other in prop.local_remote_pairs or ()
        ]
        local, remote = zip(*pairs, strict=True)
        return Link(key, side_of(theirs.class_, tables, rule=rule.name), local, remote)
    raise SyncRuleError(f"{problem} is no relationship of {rule.source.label}")


@dataclass(slots=True)
class Linked:
    """Keys by which related rows, that have changed, belong to rows of the source."""

    keys: dict[str, dict[Key, None]] = field(default_factory=dict)
    """By the relationship's name, the values of its remote fields."""
    emptied: bool = False
    """Whether all rows of a related table are gone at once."""


class Related:
    """Loads the objects of one rule, in sessions of its own."""

    def __init__(self, federation: Federation, rule: ResolvedRule) -> None:
        self._federation, self._rule = federation, rule
        self.links = links_of(rule, federation.tables)

    async def load(self, keys: Sequence[Key]) -> dict[Key, Any]:
        """Return the objects with these keys that are there, each with what is loaded for it."""
        model: Any = self._rule.source.model
        store = self._federation.stores[self._rule.source.service]
        options = [federated_load(getattr(model, link.attribute)) for link in self.links]
        found: dict[Key, Any] = {}
        async with self._federation.session() as session:
            for part in batches(keys, store.keys_per_statement(len(self._rule.source.whole.key))):
                for instance in await self._objects(session, store, model, part, options):
                    found[tuple(getattr(instance, name) for name in self._rule.source.whole.key)] = instance
            session.expunge_all()
        return found

    async def _objects(
        self, session: Any, store: Store, model: Any, keys: Sequence[Key], options: Sequence[Any]
    ) -> Sequence[Any]:
        if isinstance(store, DocumentStore):
            raw = await store.find_keys(model, ["id"], keys)
            instances = [store.parse(model, one) for one in raw]
            await session.load(instances, *options)
            return instances
        whole = self._rule.source.whole
        condition = cast(SQLStore, store).key_filter([whole.columns[name] for name in whole.key], keys)
        statement = select(model).where(condition).options(*options)
        return cast("Sequence[Any]", (await session.scalars(statement)).unique().all())

    # -- which rows something belongs to

    def belongs(self, change: Change, linked: Linked) -> None:
        """Take in what a change says about whose a related row was, and whose it is; other changes are passed over."""
        place = change.shape.table if change.shape.table is not None else change.shape.document
        for link in self.links:
            if link.related.place is not place:
                continue
            if change.kind == "truncate":
                linked.emptied = True
                return
            keys = linked.keys.setdefault(link.attribute, {})
            # A log may tell of a row that is gone its key alone, and not as what it was before.
            key = dict(zip(change.shape.key, change.key, strict=True)) if change.key else None
            for values in (key, change.before, change.values):
                if values is not None and all(values.get(name) is not None for name in link.remote):
                    keys[tuple(values[name] for name in link.remote)] = None

    async def rows_of(self, linked: Linked) -> dict[Key, None]:
        """Return the keys of the source's rows that related rows belong to."""
        rows: dict[Key, None] = {}
        whole = self._rule.source.whole
        for link in self.links:
            keys = linked.keys.get(link.attribute)
            if not keys:
                continue
            if set(link.local) == set(whole.key):
                at = [link.local.index(name) for name in whole.key]
                rows.update(dict.fromkeys(tuple(key[place] for place in at) for key in keys))
            else:
                rows.update(dict.fromkeys(await self._pointing(link, list(keys))))
        return rows

    async def _pointing(self, link: Link, keys: Sequence[Key]) -> list[Key]:
        """Look up which rows of the source point to related rows."""
        whole = self._rule.source.whole
        store = self._federation.stores[whole.service]
        found: list[Key] = []
        for part in batches(keys, store.keys_per_statement(len(link.local))):
            if isinstance(store, DocumentStore):
                raw = await store.find_keys(whole.document, link.local, part)  # type: ignore[arg-type]
                found += [(store.parse(whole.document, one).id,) for one in raw]  # type: ignore[arg-type]
                continue
            sql = cast(SQLStore, store)
            query = select(*(whole.columns[name] for name in whole.key)).where(
                sql.key_filter([whole.columns[name] for name in link.local], part)
            )
            found += await greenlet_spawn(_rows, sql, query)
        return found


def _rows(store: SQLStore, query: Any) -> list[Key]:
    with store.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]
