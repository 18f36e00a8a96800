"""The statements with which a relay works on the outbox of a service that speaks SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Select,
    Update,
    and_,
    bindparam,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from fedorm.outbox.tables import (
    State,
    fedorm_inbox,
    fedorm_outbox,
    fedorm_outbox_deliveries,
    fedorm_outbox_partitions,
)
from fedorm.stores.base import Capability
from fedorm.stores.sql import SQLStore

HANDLED = ("position", "id", "type", "key", "data", "at", "partition")
"""The columns of an event that is handed on."""


class Statements:
    """Statements over one service's tables; those that never differ are made once."""

    def __init__(self, store: SQLStore) -> None:
        self._store = store
        self.outbox = fedorm_outbox(store.service)
        self.deliveries = fedorm_outbox_deliveries(store.service)
        self.partitions = fedorm_outbox_partitions(store.service)
        self.inbox = fedorm_inbox(store.service)
        self._columns = [self.outbox.c[name] for name in HANDLED]
        # Written out: the index of waiting events serves conditions on this very value alone.
        self._waiting = self.outbox.c.state == literal_column(str(State.WAITING.value))
        self._with_arrays = Capability.ARRAY_KEYS in store.capabilities
        self._lateral = self._make_lateral() if self._with_arrays else None
        self.park = insert(self.deliveries)
        d = self.deliveries.c
        self.postpone = (
            update(self.deliveries)
            .where(
                d.partition == bindparam("at_partition"),
                d.key == bindparam("of_key"),
                d.target == bindparam("of_target"),
                d.failed_at.is_(None),
            )
            .values(next_at=bindparam("to_moment"))
        )
        head = update(self.deliveries).where(d.position == bindparam("at_position"), d.target == bindparam("of_target"))
        self.note_failure = head.values(attempts=d.attempts + 1, error=bindparam("because"))
        self.put_aside = head.values(
            attempts=d.attempts + 1, error=bindparam("because"), failed_at=bindparam("now"), next_at=None
        )

    def among(self, which: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
        """Return a condition that a column has one of many values, in the way that suits the database."""
        return self._store.key_filter([which], [(value,) for value in values])

    # -- taking

    def open_partitions(self, targets: Collection[str], now: float) -> Select[tuple[int]]:
        """Return a select of the partitions that have something to hand on; not yet limited, nor locked."""
        partition = self.partitions.c.partition
        d = self.deliveries.c
        waiting = exists().where(self._waiting, self.outbox.c.partition == partition)
        due = exists().where(d.partition == partition, d.target.in_(list(targets)), d.next_at <= now)
        return select(partition).where(or_(waiting, due)).order_by(partition)

    def fresh(self, partitions: Sequence[int], limit: int) -> tuple[Any, dict[str, Any]]:
        """Return a select of the first waiting events of each partition, and its parameters.

        Its last column says whether any target has not got an event of before: then more has to be asked.
        """
        share = max(1, limit // len(partitions))
        if self._lateral is not None:
            return self._lateral, {"partitions": list(partitions), "share": share}
        any_held = exists().select_from(self.deliveries).label("any_held")
        parts = [
            select(*self._columns, any_held)
            .where(self._waiting, self.outbox.c.partition == one)
            .order_by(self.outbox.c.position)
            .limit(share)
            for one in partitions
        ]
        return parts[0] if len(parts) == 1 else union_all(*parts), {}

    def _make_lateral(self) -> Any:
        kind = self.outbox.c.partition.type
        numbers = func.unnest(bindparam("partitions", type_=ARRAY(kind))).table_valued(column("number", kind))
        claimed = numbers.render_derived(name="claimed")
        # One partition after the other, each from its start: a scan of an index, however long the others' queues are.
        each = (
            select(*self._columns)
            .where(self._waiting, self.outbox.c.partition == claimed.c.number)
            .order_by(self.outbox.c.position)
            .limit(bindparam("share", type_=self.outbox.c.position.type))
            .lateral("each")
        )
        any_held = exists().select_from(self.deliveries).label("any_held")
        return select(*each.c, any_held).select_from(claimed.join(each, true()))

    def held(self, partitions: Sequence[int], keys: Sequence[str]) -> Select[Any]:
        """Return a select of the keys, of those given, that some target has not got an event of: with the moment."""
        d = self.deliveries.c
        return (
            select(d.target, d.key, func.max(d.next_at))
            .where(d.partition.in_(partitions), d.key.in_(keys), d.next_at.is_not(None))
            .group_by(d.target, d.key)
        )

    def due(self, partitions: Sequence[int], targets: Collection[str], now: float, limit: int) -> Select[Any]:
        """Return a select of events that are to be tried again, with target and attempts."""
        d = self.deliveries.c
        return (
            select(*self._columns, d.target, d.attempts)
            .join_from(self.deliveries, self.outbox, self.outbox.c.position == d.position)
            .where(d.partition.in_(partitions), d.target.in_(list(targets)), d.next_at <= now)
            .order_by(d.position)
            .limit(limit)
        )

    # -- settling

    def remove(self, positions: Sequence[Any]) -> Delete:
        """Return what removes events."""
        return delete(self.outbox).where(self.among(self.outbox.c.position, positions))

    def mark(self, positions: Sequence[Any], state: State, **values: Any) -> Update:
        """Return what sets the state of events."""
        return (
            update(self.outbox).where(self.among(self.outbox.c.position, positions)).values(state=state.value, **values)
        )

    def got(self, target: str, positions: Sequence[Any]) -> Delete:
        """Return what notes that a target has events now."""
        d = self.deliveries.c
        return delete(self.deliveries).where(d.target == target, self.among(d.position, positions))

    def complete(self, positions: Iterable[Any]) -> Select[Any]:
        """Return a select of those events that no target waits for any more."""
        missing = exists().where(self.deliveries.c.position == self.outbox.c.position)
        return select(self.outbox.c.position).where(
            self.among(self.outbox.c.position, list(positions)), ~missing, self.outbox.c.state == State.HELD.value
        )

    # -- looking after what was put aside

    def troubles(self, *, target: str | None, failed: bool) -> Select[Any]:
        """Return a select of what was put aside, or of what is tried again."""
        d = self.deliveries.c
        o = self.outbox.c
        which = d.failed_at.is_not(None) if failed else and_(d.next_at.is_not(None), d.attempts > 0)
        found = (
            select(d.target, d.position, o.id, o.type, o.key, d.attempts, d.error, d.next_at, d.failed_at)
            .join_from(self.deliveries, self.outbox, o.position == d.position)
            .where(which)
            .order_by(d.position, d.target)
        )
        return found if target is None else found.where(d.target == target)

    def put_aside_events(self, *, target: str | None, ids: Collection[str] | None) -> Select[Any]:
        """Return a select of the keys of what was put aside: target and position."""
        d = self.deliveries.c
        found = select(d.target, d.position).where(d.failed_at.is_not(None))
        if target is not None:
            found = found.where(d.target == target)
        if ids is not None:
            found = found.join_from(self.deliveries, self.outbox, self.outbox.c.position == d.position).where(
                self.outbox.c.id.in_(list(ids))
            )
        return found
