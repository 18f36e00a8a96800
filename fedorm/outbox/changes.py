"""The changes that a flush makes to rows, and the events that they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import Connection, event
from sqlalchemy.orm import InstanceState, Mapper
from sqlalchemy.orm.base import NO_VALUE

from fedorm.catalog import catalog
from fedorm.entity import is_document
from fedorm.outbox.events import new_id
from fedorm.outbox.plans import Plan, Row, RowRule, forget_plans, plan_of
from fedorm.outbox.rules import Change, OutboxRule, add_rule, rules_of
from fedorm.stores.base import batches
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

State = InstanceState[Any]
_Values = Mapping[str, Any]


class _Changed(NamedTuple):
    change: Change
    plan: Plan
    state: State
    old: dict[str, Any]
    """Values from before the change, of attributes that have others now, or are not loaded."""


class RowChanges:
    """What the flush under way has changed so far, in the order of its statements."""

    def __init__(self, session: FederatedSession) -> None:
        self._session = session
        self._changed: list[_Changed] = []
        self._read: dict[State, dict[str, Any]] = {}
        """Rows as they were before the flush, of objects that had not loaded all of it."""

    def __bool__(self) -> bool:
        return bool(self._changed)

    def clear(self) -> None:
        """Forget everything: the flush has ended, or failed."""
        self._changed.clear()
        self._read.clear()

    # -- before the statements

    def inserting(self, mapper: Mapper[Any], connection: Connection, state: State) -> None:
        """Take note of a new row; of one that takes the place of a deleted one, it is an update."""
        plan = plan_of(mapper, connection.dialect)
        replaced = self._replaced(mapper, state) if self._session._deleted else None
        if replaced is None:
            self._changed.append(_Changed("insert", plan, state, {}))
            return
        self._complete(plan, connection, replaced, {})
        old = self._before(plan, replaced, {})
        self._changed.append(_Changed("update", plan, state, dict(old)))

    def _replaced(self, mapper: Mapper[Any], state: State) -> State | None:
        if any(state.dict.get(name) is None for name in plan_key(mapper)):
            return None
        key = mapper._identity_key_from_state(state)
        return next((one for one in self._session._deleted if one.key == key), None)

    def updating(self, mapper: Mapper[Any], connection: Connection, state: State) -> None:
        """Keep the values that are about to be changed."""
        plan = plan_of(mapper, connection.dialect)
        committed = state.committed_state
        if plan.mapped.isdisjoint(committed):
            return
        old = {name: committed[name] for name in plan.needed if name in committed}
        for name in plan.automatic:
            old.setdefault(name, state.dict.get(name, NO_VALUE))
        self._complete(plan, connection, state, old)
        self._changed.append(_Changed("update", plan, state, old))

    def deleting(self, mapper: Mapper[Any], connection: Connection, state: State) -> None:
        """Keep the values that are about to go."""
        plan = plan_of(mapper, connection.dialect)
        committed = state.committed_state
        old = {name: committed[name] for name in plan.needed if name in committed}
        self._complete(plan, connection, state, old)
        self._changed.append(_Changed("delete", plan, state, old))

    def _complete(self, plan: Plan, connection: Connection, state: State, old: dict[str, Any]) -> None:
        """Read what is not known of the row as it is now; with it, of all others that will have to be read."""
        if state in self._read or not _lacks(plan, state, old):
            return
        session = self._session
        others = [*session.identity_map._modified, *session._deleted]
        states = {one: None for one in others if one.manager.mapper is plan.mapper and one not in self._read}
        which = [one for one in states if one is not state and one.key and _lacks(plan, one, one.committed_state)]
        rows = self._rows(plan, connection, {one: one.key[1] for one in (state, *which) if one.key}, locked=True)
        self._read.update(rows)

    def _rows(
        self, plan: Plan, connection: Connection, keys: Mapping[State, tuple[Any, ...]], *, locked: bool = False
    ) -> dict[State, dict[str, Any]]:
        store = cast(SQLStore, self._session.store_named(plan.service))
        columns = list(plan.primary_key.values())
        by_key = {key: state for state, key in keys.items()}
        found: dict[State, dict[str, Any]] = {}
        for part in batches(by_key, store.keys_per_statement(len(columns))):
            statement = plan.select.where(store.key_filter(columns, part))
            for row in connection.execute(statement.with_for_update() if locked else statement):
                values = dict(zip(plan.needed, row, strict=True))
                state = by_key.get(tuple(values[name] for name in plan.primary_key))
                if state is not None:
                    found[state] = values
        return found

    # -- after the statements

    def events(self) -> dict[str, list[Row]]:
        """Return the events of each service, in order."""
        later = self._read_after()
        events: dict[str, list[Row]] = {}
        for one in self._changed:
            events.setdefault(one.plan.service, []).extend(self._events_of(one, later.get(one.state, {})))
        return events

    def _read_after(self) -> dict[State, dict[str, Any]]:
        """Read what the database itself has put into changed rows, and did not tell."""
        lacking: dict[Plan, dict[State, tuple[Any, ...]]] = {}
        for change, plan, state, old in self._changed:
            values = state.dict
            if change == "insert":
                missing = any(name not in values and name not in plan.none_if_missing for name in plan.needed)
            elif change == "update":
                unread = state not in self._read
                missing = any(name not in values and (unread or name in old) for name in plan.needed)
            else:
                missing = False
            if missing:
                lacking.setdefault(plan, {})[state] = _identity(plan, state)
        found: dict[State, dict[str, Any]] = {}
        for plan, keys in lacking.items():
            connection = self._session.connection(bind_arguments={"service": plan.service})
            found.update(self._rows(plan, connection, keys))
        return found

    def _before(self, plan: Plan, state: State, old: _Values) -> _Values:
        values, read = state.dict, self._read.get(state, {})
        before = {}
        for name in plan.needed:
            value = old.get(name, NO_VALUE)
            if value is NO_VALUE:
                value = read[name] if name in read else values.get(name)
            before[name] = value
        return before

    def _after(self, plan: Plan, state: State, later: _Values) -> _Values:
        values, read = state.dict, self._read.get(state, {})
        return {
            name: values[name] if name in values else later[name] if name in later else read.get(name)
            for name in plan.needed
        }

    def _events_of(self, one: _Changed, later: _Values) -> Iterator[Row]:
        plan, state = one.plan, one.state
        if one.change == "insert":
            values = plan.encode(self._after(plan, state, later))
            for rule in plan.rules:
                yield from _whole(plan, rule, "insert", values)
        elif one.change == "delete":
            values = plan.encode(self._before(plan, state, one.old))
            for rule in plan.rules:
                yield from _whole(plan, rule, "delete", values)
        else:
            new = plan.encode(self._after(plan, state, later))
            if later or state in self._read or NO_VALUE in one.old.values():
                old = plan.encode(self._before(plan, state, one.old))
            else:  # All is known from the object, and what is not kept as old is as it was.
                old = new | plan.encode(one.old)
            if old != new:
                for rule in plan.rules:
                    yield from _update(plan, rule, old, new)


def _whole(plan: Plan, rule: RowRule, change: Change, values: _Values) -> Iterator[Row]:
    """Make the event of a row that is new, or gone."""
    if change in rule.on:
        captured = {name: values[attribute] for attribute, name in rule.columns}
        yield _row(plan, rule, change, values, {"values": captured})


def _update(plan: Plan, rule: RowRule, old: _Values, new: _Values) -> Iterator[Row]:
    if rule.moves and any(old[name] != new[name] for name in plan.primary_key):
        yield from _whole(plan, rule, "delete", old)
        yield from _whole(plan, rule, "insert", new)
    elif "update" in rule.on:
        changed = {
            name: [old[attribute], new[attribute]]
            for attribute, name in rule.columns
            if old[attribute] != new[attribute]
        }
        if changed:
            values = {name: new[attribute] for attribute, name in rule.columns}
            yield _row(plan, rule, "update", new, {"values": values, "changed": changed})


def _row(plan: Plan, rule: RowRule, change: Change, values: _Values, data: dict[str, Any]) -> Row:
    identity = {plan.names[name]: values[name] for name in plan.primary_key}
    return {
        "id": new_id(),
        "type": rule.types[change],
        "key": rule.key_of(values),
        "data": {"key": identity, **data},
    }


def plan_key(mapper: Mapper[Any]) -> Iterable[str]:
    """Return the attributes of a mapper's primary key."""
    return (mapper.get_property_by_column(column).key for column in mapper.primary_key)


def _lacks(plan: Plan, state: State, old: _Values) -> bool:
    """Say whether some value of the row is not known from the object alone."""
    values = state.dict
    return any(name not in values or old.get(name, True) is NO_VALUE for name in plan.needed)


def _identity(plan: Plan, state: State) -> tuple[Any, ...]:
    """Return the primary key that a row has after the flush."""
    values = state.dict
    before = state.key[1] if state.key is not None else (None,) * len(plan.primary_key)
    return tuple(values.get(name, was) for name, was in zip(plan.primary_key, before, strict=True))


# -- the mapper's own events, through which a flush tells of each object


def _changes_of(state: State) -> RowChanges | None:
    outbox = getattr(state.session, "outbox", None)  # A plain Session has none: it is not fedorm's.
    return outbox.changes if outbox is not None else None


def _inserting(mapper: Mapper[Any], connection: Connection, state: State) -> None:
    if (changes := _changes_of(state)) is not None:
        changes.inserting(mapper, connection, state)


def _updating(mapper: Mapper[Any], connection: Connection, state: State) -> None:
    if (changes := _changes_of(state)) is not None:
        changes.updating(mapper, connection, state)


def _deleting(mapper: Mapper[Any], connection: Connection, state: State) -> None:
    if (changes := _changes_of(state)) is not None:
        changes.deleting(mapper, connection, state)


def watch_model(model: type[Any]) -> None:
    """Hear of each change of a model's objects, if it has rules that the session carries out."""
    if is_document(model):
        return
    rules = [rule for rule in rules_of(model) if rule.by == "session"]
    if rules:
        # Of all three kinds, whatever the rules are for: a row may move to another key, or take another's place.
        event.listen(model, "before_insert", _inserting, raw=True)
        event.listen(model, "before_update", _updating, raw=True)
        event.listen(model, "before_delete", _deleting, raw=True)


def hear_also(model: type[Any], rule: OutboxRule) -> None:
    """Give a model one more rule, after it was declared; more than once it has it once."""
    if add_rule(model, rule):
        watch_model(model)
    forget_plans()


catalog.on_add(watch_model)
