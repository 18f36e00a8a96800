"""The pure part of loading: keys read and made equal, groups by key, the order that a relationship says."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from fedorm.relationship import FederatedAttribute, Hop, convert_key

Key = Hashable
"""The value of a key of one column, or a tuple of the values of several."""


def hash_groups(keys: Iterable[Key], targets: Iterable[Any]) -> dict[Key, list[Any]]:
    """Return the targets by key, in their order."""
    groups: dict[Key, list[Any]] = {}
    for key, target in zip(keys, targets, strict=True):
        groups.setdefault(key, []).append(target)
    return groups


class Attributes:
    """An instance's attributes by name, by way of their descriptors: what is not loaded is loaded."""

    __slots__ = ("_instance",)

    def __init__(self, instance: Any) -> None:
        self._instance = instance

    def __getitem__(self, name: str) -> Any:
        return getattr(self._instance, name)


def read_keys(instances: Sequence[Any], names: tuple[str, ...], otherwise: Callable[[Any], Any]) -> list[Any]:
    """Return each instance's key, None where a part of it is None; by ``otherwise`` where one is not loaded."""
    if len(names) == 1:
        return _read(instances, names[0], otherwise)
    columns = [_read(instances, name, otherwise) for name in names]
    return [None if None in key else key for key in zip(*columns, strict=True)]


def _read(instances: Sequence[Any], name: str, otherwise: Callable[[Any], Any]) -> list[Any]:
    try:
        # The plain dictionary: a loaded attribute needs none of the descriptor's work.
        return [instance.__dict__[name] for instance in instances]
    except KeyError:
        return [otherwise(instance)[name] for instance in instances]


def distinct(keys: Iterable[Key]) -> list[Key]:
    """Return each key once, None not at all."""
    return [key for key in dict.fromkeys(keys) if key is not None]


def as_parts(key: Any, names: Sequence[Any]) -> tuple[Any, ...]:
    """Return a key as a tuple."""
    return (key,) if len(names) == 1 else key


def all_parts(keys: Iterable[Any], names: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return keys as tuples."""
    return [(key,) for key in keys] if len(names) == 1 else list(keys)


def remote_key(hop: Hop, key: Key) -> Key:
    """Return a parent's key in the types of the target."""
    converted = convert_key(hop, as_parts(key, hop.local), hop.convert)
    return converted if len(converted) > 1 else converted[0]


def _order_names(attribute: FederatedAttribute) -> list[str]:
    given = attribute.order_by
    return [given] if isinstance(given, str) else list(given or ())


def document_order(attribute: FederatedAttribute, target: type[Any]) -> list[str]:
    """Return a relationship's order as names of fields, a minus before those that descend."""
    given = attribute.order_by
    if not callable(given):
        return _order_names(attribute)
    made = given(target)
    # Beanie makes a pair of  -Product.price : the field and its direction.
    pairs = [one if isinstance(one, tuple) else (one, 1) for one in (made if isinstance(made, list) else [made])]
    return [("-" if int(direction) < 0 else "") + str(name) for name, direction in pairs]


def row_order(attribute: FederatedAttribute, target: type[Any]) -> list[Any]:
    """Return a relationship's order as expressions."""
    given = attribute.order_by
    if callable(given):
        made = given(target)
        return list(made) if isinstance(made, list | tuple) else [made]
    return [
        getattr(target, name[1:]).desc() if name.startswith("-") else getattr(target, name.lstrip("+"))
        for name in _order_names(attribute)
    ]
