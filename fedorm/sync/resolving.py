"""From a rule as it is declared to what is read and written: each name looked up, each mistake said."""

from __future__ import annotations

from collections.abc import Mapping as Names
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table
from sqlalchemy import types as sqltypes

from fedorm.entity import column_type
from fedorm.stores.rows import RowShape
from fedorm.sync.errors import SyncRuleError
from fedorm.sync.mapping import Mapping
from fedorm.sync.marking import owned, unmarked
from fedorm.sync.rule import SyncRule, name_of
from fedorm.sync.shapes import Side, side_of
from fedorm.sync.strategies import CDC, Strategy


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedRule:
    """A rule with its two sides, and what leads from one to the other."""

    name: str
    declared: SyncRule
    source: Side
    target: Side
    mapping: Mapping

    @property
    def strategy(self) -> Strategy:
        """How it hears of changes."""
        return self.declared.strategy

    @property
    def through(self) -> str | None:
        """The stream of a broker that its changes go through."""
        return self.strategy.through if isinstance(self.strategy, CDC) else None

    @property
    def services(self) -> set[str]:
        """Whose data it reads and writes."""
        return {self.source.service, self.target.service}


def resolved(rule: SyncRule, tables: Names[str, Table]) -> ResolvedRule:
    """Look up what a rule names. Raises ``SyncRuleError`` for what is not there, and for what does not go together."""
    name = name_of(rule)
    near = rule.source if isinstance(rule.source, type) else None
    source = side_of(rule.source, tables, rule=name, near=near)
    target = side_of(rule.to, tables, rule=name, near=near)
    if (
        source.whole.table is not None and source.whole.table is target.whole.table
    ) or source.model is target.model is not None:
        raise SyncRuleError(f"sync rule {name!r}: its source and its target are the same, {source.label}")
    key = _key(rule, name, source, target)
    copied = _copied(rule, name, source, target, dict(key))
    read = {mine if mine in source.whole.fields else mine.partition(".")[0] for mine, _ in copied}
    if rule.looks_at_rows:
        read = set(source.whole.fields)
    written = (
        set(target.whole.fields) if rule.make or rule.transform or rule.transform_batch else {one for _, one in copied}
    )
    written |= {theirs for _, theirs in key} | rule.mark.keys() | rule.owns.keys()
    for said, fields in (("mark", rule.mark), ("owns", rule.owns)):
        unknown = [one for one in fields if one not in target.whole.fields]
        if unknown:
            raise SyncRuleError(f"sync rule {name!r}: {said} names {unknown[0]!r}, which {target.label} does not have")
    to = _keyed(target, written, key)
    unmark = unmarked(rule, name, to, {one for _, one in copied} if rule.make is None else set())
    mapping = Mapping(
        rule, name, source.shape(read), to, key=key, copied=copied, unmark=unmark, owns=owned(rule, name, to)
    )
    return ResolvedRule(name, rule, source, target, mapping)


def _keyed(target: Side, written: set[str], key: Sequence[tuple[str, str]]) -> RowShape:
    """Return the target's shape, known by the fields that stand for the source's key."""
    from dataclasses import replace

    names = tuple(theirs for _, theirs in key)
    shape = target.shape(written)
    if set(names) == set(shape.key):
        return shape
    fields = tuple(name for name in shape.fields if name in written)
    return replace(
        shape,
        key=names,
        fields=fields,
        columns={n: c for n, c in shape.columns.items() if n in fields or n in (shape.version, shape.deleted)},
    )


def _key(rule: SyncRule, name: str, source: Side, target: Side) -> list[tuple[str, str]]:
    """Return pairs of the source's and the target's key fields, in the order of the target's key."""
    mine, theirs = source.whole.key, target.whole.key
    given = dict(rule.key or {})
    for one, other in (rule.fields or {}).items():
        if one in mine and other in theirs:
            given.setdefault(one, other)
    if given:
        if set(given) != set(mine):
            raise SyncRuleError(
                f"sync rule {name!r}: key={given!r} has to say of each of {', '.join(mine)} where it is in "
                f"{target.label}"
            )
        for other in given.values():
            if other not in target.whole.fields:
                raise SyncRuleError(f"sync rule {name!r}: key names {other!r}, which {target.label} does not have")
        order = {other: place for place, other in enumerate(theirs)}
        return sorted(given.items(), key=lambda pair: order.get(pair[1], len(order)))
    if len(mine) != len(theirs):
        raise SyncRuleError(
            f"sync rule {name!r}: {source.label} is known by {', '.join(mine)}, {target.label} by {', '.join(theirs)}: "
            f"say which belongs to which with  key={{...}}"
        )
    if set(mine) == set(theirs):
        return [(one, one) for one in theirs]
    return list(zip(mine, theirs, strict=True))


def _copied(rule: SyncRule, name: str, source: Side, target: Side, key: dict[str, str]) -> list[tuple[str, str]]:
    """Return pairs of what is copied to where."""
    if rule.make is not None:
        return list(key.items())
    relations = {str(getattr(one, "key", one)) for one in rule.load}
    copied = dict(rule.fields or {})
    for mine, theirs in copied.items():
        first, _, more = mine.partition(".")
        if mine not in source.whole.fields and not (more and (first in relations or first in source.whole.fields)):
            hint = f"; load it with  load=[{source.label}.{first}]" if more else ""
            raise SyncRuleError(f"sync rule {name!r}: fields names {mine!r}, which {source.label} does not have{hint}")
        if theirs not in target.whole.fields:
            raise SyncRuleError(
                f"sync rule {name!r}: fields names {theirs!r}, which {target.label} does not have; it has "
                f"{', '.join(target.whole.fields)}"
            )
    pairs = list(copied.items())
    taken = set(copied.values())
    for mine, theirs in key.items():
        if theirs not in taken:
            pairs.append((mine, theirs))
            taken.add(theirs)
    if rule.copy_unmapped:
        for field in source.whole.fields:
            if field not in copied and field not in key and field in target.whole.fields and field not in taken:
                pairs.append((field, field))
                taken.add(field)
    if rule.transform is None and rule.transform_batch is None:
        _check_types(name, source, target, pairs)
    return pairs


_KINDS: tuple[tuple[str, tuple[type[Any], ...]], ...] = (
    ("number", (sqltypes.Numeric, sqltypes.Float, sqltypes.Integer)),
    ("moment", (sqltypes.DateTime, sqltypes.Date)),
    ("time of day", (sqltypes.Time,)),
    ("bytes", (sqltypes._Binary,)),
)
_UNLIKE = {
    ("moment", "number"),
    ("number", "moment"),
    ("time of day", "number"),
    ("number", "time of day"),
    ("moment", "time of day"),
    ("time of day", "moment"),
    ("bytes", "number"),
    ("bytes", "moment"),
    ("text", "number"),
    ("text", "moment"),
    ("number", "bytes"),
    ("moment", "bytes"),
}
"""Kinds that no value goes over between without the user's own code."""


def _check_types(name: str, source: Side, target: Side, pairs: Sequence[tuple[str, str]]) -> None:
    for mine, theirs in pairs:
        one, other = source.whole.columns.get(mine), target.whole.columns.get(theirs)
        if one is None or other is None:
            continue
        kinds = _kind(one.type), _kind(other.type)
        if kinds in _UNLIKE:
            raise SyncRuleError(
                f"sync rule {name!r}: {source.label}.{mine} is a {_said(one)} ({kinds[0]}) and {target.label}.{theirs} "
                f"a {_said(other)} ({kinds[1]}): make one of the other with  transform="
            )


def _kind(kind: Any) -> str | None:
    if isinstance(kind, sqltypes.TypeDecorator):
        return None
    for name, kinds in _KINDS:
        if isinstance(kind, kinds):
            return name
    return "text" if isinstance(kind, sqltypes.String) and not isinstance(kind, sqltypes.Enum) else None


def _said(column: Any) -> str:
    found = column_type(column)
    return found.__name__ if found is not None else str(column.type)


def check_circles(rules: Sequence[ResolvedRule]) -> None:
    """Refuse rules that would hand a change on for ever. Raises ``SyncRuleError`` with the circle."""
    leads: dict[Any, list[ResolvedRule]] = {}
    for rule in rules:
        leads.setdefault(rule.source.place, []).append(rule)

    def follow(rule: ResolvedRule, path: list[ResolvedRule]) -> None:
        for other in leads.get(rule.target.place, ()):
            if other in path:
                circle = [*path[path.index(other) :], other]
                raise SyncRuleError(
                    "sync rules make a circle, in which a change would go round for ever: "
                    + " -> ".join(one.source.label for one in circle)
                    + f" (rules {', '.join(repr(one.name) for one in circle[:-1])}): leave one of them out"
                )
            follow(other, [*path, other])

    for rule in rules:
        follow(rule, [rule])
