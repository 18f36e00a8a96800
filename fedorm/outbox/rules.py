"""Which changes of a model's rows or documents make events, and what these events are called and hold."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import inspect

from fedorm.catalog import catalog, service_of
from fedorm.entity import is_document
from fedorm.exc import OutboxRuleError

Change = Literal["insert", "update", "delete"]
CHANGES: tuple[Change, ...] = ("insert", "update", "delete")
HAPPENED: Mapping[Change, str] = {"insert": "inserted", "update": "updated", "delete": "deleted"}
"""What stands for ``{event}`` in the type of an event."""
_PLACES = ("service", "table", "model", "event")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRule:
    """Makes an event of each change of a row or document, in the transaction of the change.

    ``on`` names the changes. ``type`` is what the events are called; ``{service}``, ``{table}``, ``{model}`` and
    ``{event}`` stand for what they say, the last for ``inserted``, ``updated`` or ``deleted``. ``key`` names the
    attributes that are the ordering key, the primary key by default, and ``columns`` those that the event holds, all by
    default: an update that changes none of them is no event. ``by`` says who writes: the session that makes the
    change, or, whoever makes it, the triggers that a migration puts on the table.
    """

    # Without the first of the two mypy takes on=("insert",) for a tuple of any texts.
    on: tuple[Change, ...] | Collection[Change] = CHANGES
    type: str = "{service}.{table}.{event}"
    key: str | Sequence[str] | None = None
    columns: Collection[str] | None = None
    by: Literal["session", "triggers"] = "session"

    def __post_init__(self) -> None:
        on = (self.on,) if isinstance(self.on, str) else tuple(self.on)
        if not on or (unknown := [one for one in on if one not in CHANGES]):
            problem = f"not {', '.join(map(repr, unknown))}" if on else "at least one"
            raise OutboxRuleError(f"an outbox rule is for 'insert', 'update' or 'delete', {problem}")
        object.__setattr__(self, "on", tuple(one for one in CHANGES if one in on))
        unknown = [name for name in re.findall(r"{([^}]*)}", self.type) if name not in _PLACES]
        if unknown or not self.type:
            raise OutboxRuleError(
                f"the type {self.type!r} of an outbox rule names {', '.join(unknown) or 'nothing'}; there are "
                f"{', '.join(f'{{{name}}}' for name in _PLACES)}"
            )
        for name, value in (("key", self.key), ("columns", self.columns)):
            if value is not None and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        if isinstance(self.columns, str):
            object.__setattr__(self, "columns", (self.columns,))
        if self.by not in ("session", "triggers"):
            raise OutboxRuleError(f"an outbox rule is carried out by 'session' or by 'triggers', not by {self.by!r}")

    @property
    def key_names(self) -> tuple[str, ...] | None:
        """Return the names of the ordering key's attributes; None for those of the primary key."""
        if self.key is None:
            return None
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    def type_of(self, change: Change, *, service: str, table: str, model: str) -> str:
        """Return what the event of a change is called."""
        return self.type.format(service=service, table=table, model=model, event=HAPPENED[change])


def rules_of(model: Any) -> tuple[OutboxRule, ...]:
    """Return the rules of a model, its bases' if it has none of its own. Raises ``OutboxRuleError``."""
    declared = getattr(model, "__outbox__", None)
    if not declared:
        return ()
    if isinstance(declared, OutboxRule):
        return (declared,)
    if isinstance(declared, str):
        raise OutboxRuleError(f'{model.__name__}: write  __outbox__ = ["{declared}"]')
    given = list(declared)
    rules = [one for one in given if isinstance(one, OutboxRule)]
    if rules and len(rules) < len(given):
        raise OutboxRuleError(f"{model.__name__}: __outbox__ holds either names of changes or rules, not both")
    try:
        return tuple(rules) or (OutboxRule(on=tuple(cast("list[Change]", given))),)
    except OutboxRuleError as error:
        raise OutboxRuleError(f"{model.__name__}.__outbox__: {error}") from None


def declaring(model: type[Any]) -> type[Any]:
    """Return the topmost class that has the rules of ``model`` and a table or collection: its name is the type's."""
    rules, found = getattr(model, "__outbox__", None), model
    for base in model.__mro__[1:]:
        has_place = "__mapper__" in vars(base) or (is_document(base) and not vars(base).get("__abstract__", False))
        if has_place and getattr(base, "__outbox__", None) is rules:
            found = base
    return found


def has_outbox(service: str) -> bool:
    """Say whether some model of a service has rules."""
    return service in _services


def models_with_rules(service: str) -> list[type[Any]]:
    """Return the models of a service that have rules."""
    return list(_services.get(service, ()))


_services: dict[str, list[type[Any]]] = {}


def note(model: type[Any]) -> None:
    """Keep in mind that a model has rules. Raises ``OutboxRuleError`` for rules that are not usable."""
    rules = rules_of(model)
    for rule in rules:
        _check_names(model, rule)
    if rules:
        _services.setdefault(service_of(model), []).append(model)


def add_rule(model: type[Any], rule: OutboxRule) -> bool:
    """Give a model one more rule unless it has it; say whether it had none that the session carries out before."""
    known = rules_of(model)
    if rule in known:
        return False
    model.__outbox__ = [*known, rule]
    if not known:
        _services.setdefault(service_of(model), []).append(model)
    return rule.by == "session" and not any(one.by == "session" for one in known)


def _check_names(model: type[Any], rule: OutboxRule) -> None:
    if is_document(model):
        known = set(model.model_fields)
        if rule.by == "triggers":
            raise OutboxRuleError(f"{model.__name__}: documents have no triggers; the session writes their events")
    else:
        columns = inspect(model).columns  # Of the mapper, which needs not be configured for that.
        known = {*columns.keys(), *(column.name for column in columns if column.name)}
    unknown = [name for name in (*(rule.key_names or ()), *(rule.columns or ())) if name not in known]
    if unknown:
        raise OutboxRuleError(
            f"the __outbox__ of {model.__name__} names {', '.join(map(repr, unknown))}, which it has not; it has "
            f"{', '.join(sorted(known))}"
        )


catalog.on_add(note)
