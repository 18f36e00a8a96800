"""The events that changes of documents are."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from fedorm.exc import EventError
from fedorm.outbox.encoding import encoded, key_text
from fedorm.outbox.events import new_id
from fedorm.outbox.plans import Row
from fedorm.outbox.rules import CHANGES, Change, OutboxRule, declaring, rules_of
from fedorm.stores.base import DocumentStore
from fedorm.stores.bson_types import field_name

if TYPE_CHECKING:
    from fedorm.tracked import Write


class DocumentRule:
    """A rule for the documents of one class."""

    def __init__(self, rule: OutboxRule, model: type[Any], store: DocumentStore) -> None:
        names = {
            "service": store.service,
            "table": store.collection_of(declaring(model)),
            "model": model.__name__,
        }
        self.types: dict[Change, str] = {change: rule.type_of(change, **names) for change in CHANGES}
        self.on = frozenset(rule.on)
        self.key = rule.key_names or ("id",)
        self.columns = None if rule.columns is None else frozenset(rule.columns)

    def event(self, change: Change, values: Mapping[str, Any], changed: Mapping[str, Any] | None = None) -> Row:
        """Make an event of a document's fields."""
        key = [values.get(name) for name in self.key]
        data: dict[str, Any] = {"key": {"id": values.get("id")}, "values": self._chosen(values)}
        if changed is not None:
            data["changed"] = dict(changed)
        return {
            "id": new_id(),
            "type": self.types[change],
            "key": key_text(key[0] if len(key) == 1 else key),
            "data": data,
        }

    def _chosen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if self.columns is None or name in self.columns}

    def changed(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that differ, with the old and the new value; what is not there counts as None."""
        names = self._chosen({**old, **new})
        return {name: [old.get(name), new.get(name)] for name in names if old.get(name) != new.get(name)}


@lru_cache(maxsize=1024)
def _rules(model: Any, store: DocumentStore) -> tuple[DocumentRule, ...]:
    return tuple(DocumentRule(rule, model, store) for rule in rules_of(model))


def document_events(store: DocumentStore, work: Sequence[Write]) -> Iterator[Row]:
    """Return the events of changes in their order."""
    for one in work:
        model = type(one.entry.document)
        change = cast(Change, one.event)
        for rule in _rules(model, store):  # type: ignore[arg-type] # mypy does not take a class for hashable
            if change not in rule.on:
                continue
            old = _fields(model, one.entry.raw) if one.entry.raw is not None else {}
            if change == "delete":
                yield rule.event("delete", old)
                continue
            new = _fields(model, one.raw or {})
            if change == "insert":
                yield rule.event("insert", new)
            elif changed := rule.changed(old, new):
                yield rule.event("update", new, changed)


def _fields(model: type[Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document as the database holds it in JSON's types, under the names of its fields."""
    names = _names(model)  # type: ignore[arg-type] # mypy does not take a class for hashable
    return {names.get(name, name): _plain(value) for name, value in raw.items()}


@lru_cache(maxsize=1024)
def _names(model: Any) -> dict[str, str]:
    return {field_name(model, name): name for name in model.model_fields} | {"_id": "id"}


def _plain(value: Any) -> Any:
    """Turn what BSON has and JSON has not into what an event can hold."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    kind = type(value).__name__
    if kind == "Decimal128":
        return encoded(value.to_decimal())
    if kind == "Binary":
        return base64.b64encode(value).decode()
    try:
        return encoded(value)
    except EventError:
        return str(value)  # An ObjectId, a regular expression.
