"""Rules as users declare them: on a model, by a decorated function, or in code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from fedorm.catalog import catalog
from fedorm.sync.errors import SyncRuleError
from fedorm.sync.hearing import hear
from fedorm.sync.strategies import EventDriven, Strategy

S = TypeVar("S")
R = TypeVar("R")
OnDelete = Literal["delete", "ignore", "mark"]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SyncRule:
    """Keeps a copy of the source's rows in another model or table, of whatever service.

    ``to`` is a model, its name, or a table (``"analytics.facts"``, or as itself). ``fields`` maps fields of the source
    to those of the target, ``{"id": "order_id"}``; with ``copy_unmapped`` those of one name are copied, too. Where
    related objects are loaded, ``{"user.email": "email"}`` takes a field of theirs. ``key`` maps the primary key of
    the source to what a row of the target is known by; without it the primary keys belong to each other.

    ``where`` is given each row, a dictionary, and says whether it is wanted; one that is wanted no more counts as
    deleted. ``transform`` is given the mapped row, whose ``.source`` is the row it comes from, and returns what is to
    be written, or None; ``transform_batch`` does the same with a list, for a list as long. All three may be async.
    ``on_delete`` says what becomes of the copy of a row that is gone: it is deleted, stays, or gets the values of
    ``mark``, ``{"active": False}``, functions among them called, ``{"gone_at": now}``. If the row comes back its copy
    gets the values of ``unmark``; without it the opposite of True or False, else None, or the field's default.

    ``owns`` says which rows of a target that other rules fill, too, are this rule's, ``{"region": "north"}``: it writes
    these values, and may remove rows that have them and whose source is gone without being told.

    ``load`` names relationships whose objects belong to the row, ``[Order.user, Order.items]``: it is synced again
    when one of those changes. ``name`` is what the rule is called in commands and figures. With ``as_replica`` a
    target in PostgreSQL, MySQL or MariaDB does not look at its foreign keys, nor PostgreSQL at triggers: rules that
    copy several tables keep no order between them.
    """

    to: Any
    strategy: Strategy
    source: Any = None
    fields: Mapping[str, str] | None = None
    copy_unmapped: bool = True
    key: Mapping[str, str] | None = None
    where: Callable[[Row], Any] | None = None
    transform: Callable[[Any], Any] | None = None
    transform_batch: Callable[[list[Any]], Any] | None = None
    on_delete: OnDelete = "delete"
    mark: Mapping[str, Any] = field(default_factory=dict)
    unmark: Mapping[str, Any] = field(default_factory=dict)
    owns: Mapping[str, Any] = field(default_factory=dict)
    load: Sequence[Any] = ()
    name: str | None = None
    make: Callable[[Any], Any] | None = None
    as_replica: bool = False
    """What a ``sync_hook`` has decorated: is given an object of the source's model, and returns one of the target's."""

    def __post_init__(self) -> None:
        if self.on_delete not in ("delete", "ignore", "mark"):
            raise SyncRuleError(f"{self}: on_delete={self.on_delete!r}: 'delete', 'ignore' or 'mark'")
        if (self.on_delete == "mark") != bool(self.mark):
            raise SyncRuleError(f'{self}: on_delete="mark" goes with  mark={{"field": value}}')
        if not self.unmark.keys() <= self.mark.keys():
            raise SyncRuleError(f"{self}: unmark={dict(self.unmark)!r}: it is of fields that  mark  sets")
        if self.transform is not None and self.transform_batch is not None:
            raise SyncRuleError(f"{self}: either transform or transform_batch")
        if not isinstance(self.strategy, Strategy):
            raise SyncRuleError(f"{self}: strategy={self.strategy!r}: Batch(), RealTime(), EventDriven() or CDC()")
        if self.name is not None and not 0 < len(self.name) <= 100:
            raise SyncRuleError(f"{self}: a name has 1 to 100 characters")

    @property
    def looks_at_rows(self) -> bool:
        """Whether code of the user's, or what is loaded for it, wants whole rows."""
        return any((self.where, self.transform, self.transform_batch, self.make, self.load))

    def __str__(self) -> str:
        source = _called(self.source) if self.source is not None else "?"
        return f"sync rule {self.name or f'{source}:{_called(self.to)}'!r}"


def _called(what: Any) -> str:
    name = what if isinstance(what, str) else getattr(what, "__name__", None) or getattr(what, "name", None)
    return str(name).rpartition(".")[2]


def name_of(rule: SyncRule) -> str:
    """Return what a rule is called: its own name, else those of its two sides."""
    return rule.name or f"{_called(rule.source)}:{_called(rule.to)}"


def sync_hook(
    *,
    source: type[S],
    to: Any,
    strategy: Strategy,
    key: Mapping[str, str] | None = None,
    on_delete: OnDelete = "delete",
    mark: Mapping[str, Any] | None = None,
    unmark: Mapping[str, Any] | None = None,
    owns: Mapping[str, Any] | None = None,
    load: Sequence[Any] = (),
    name: str | None = None,
) -> Callable[[Callable[[S], R]], Callable[[S], R]]:
    """Declare a rule by a function, sync or async, that makes an object of ``to`` of one of ``source``.

    None says that this row is not wanted. The other arguments are those of ``SyncRule``; the rule has the function's
    name if it is given none.
    """

    def decorate(function: Callable[[S], R]) -> Callable[[S], R]:
        rule = SyncRule(
            to=to,
            strategy=strategy,
            source=source,
            key=key,
            on_delete=on_delete,
            mark=mark or {},
            unmark=unmark or {},
            owns=owns or {},
            load=load,
            name=name or function.__name__,
            make=function,
        )
        declare(rule)
        return function

    return decorate


_declared: list[SyncRule] = []


def declared_rules() -> list[SyncRule]:
    """Return the rules of all models, and of all decorated functions, that were imported."""
    return list(_declared)


def declare(rule: SyncRule) -> None:
    """Make a rule one of all federations that have its services."""
    hear_for(rule)
    _declared.append(rule)


def hear_for(rule: SyncRule) -> None:
    """Let the source of an event-driven rule make events."""
    if isinstance(rule.strategy, EventDriven) and hasattr(rule.source, "__service__"):
        hear(rule.source, rule.strategy)


def _declared_on(model: type[Any]) -> None:
    rules = vars(model).get("__sync__", ())
    if isinstance(rules, SyncRule):
        raise SyncRuleError(f"{model.__name__}.__sync__: write a list,  [SyncRule(...)]")
    for rule in rules:
        if not isinstance(rule, SyncRule):
            raise SyncRuleError(f"{model.__name__}.__sync__ holds {rule!r}, which is no SyncRule")
        declare(replace(rule, source=model))


catalog.on_add(_declared_on)
