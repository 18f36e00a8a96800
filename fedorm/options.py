"""``federated_load()``: which relationships a statement loads, as a tree of paths."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import (
    InstrumentedAttribute,
    QueryableAttribute,
    RelationshipProperty,
    UserDefinedOption,
    defaultload,
    selectinload,
)
from sqlalchemy.orm.strategy_options import _AbstractLoad

from fedorm.catalog import service_of
from fedorm.entity import is_document
from fedorm.exc import RelationshipError
from fedorm.relationship import FederatedAttribute
from fedorm.relationship_sql import declared

Relationship = FederatedAttribute | QueryableAttribute[Any]
"""What a class has for a relationship to another service, or within its own; of an alias, too."""
Step = FederatedAttribute | InstrumentedAttribute[Any]
Keys = tuple[str, ...]
"""The names of attributes, each leading to the class of the next."""


class FederatedLoad(UserDefinedOption):
    """A path of relationships to load with a statement; made by ``federated_load()``."""

    propagate_to_loaders = False
    inherit_cache = True

    def __init__(self, path: tuple[Step, ...]) -> None:
        super().__init__(path)
        self.path = path

    @property
    def root(self) -> type[Any]:
        """The class whose instances the path starts from."""
        return owner(self.path[0])

    def __repr__(self) -> str:
        return f"federated_load({', '.join(str(step) for step in self.path)})"


def federated_load(*path: Relationship) -> FederatedLoad:
    """Return an option that loads a path of relationships, federated and ordinary ones mixed, at any depth.

    ``select(Order).options(federated_load(Order.items, OrderItem.product, Product.supplier))``. Each federated step
    costs one statement a service and batch, each ordinary one a ``selectinload``. Raises ``RelationshipError`` for
    a step that is no relationship or does not start where the one before it ended.
    """
    if not path:
        raise RelationshipError("federated_load() needs at least one relationship: federated_load(Order.user)")
    steps: tuple[Step, ...] = tuple(map(declared, path))
    for step in steps:
        ordinary = isinstance(step, InstrumentedAttribute) and isinstance(step.property, RelationshipProperty)
        if not ordinary and not isinstance(step, FederatedAttribute):
            raise RelationshipError(f"federated_load({step}): this is not a relationship, as Order.user is one")
    for step, after in itertools.pairwise(steps):
        if not issubclass(target(step), owner(after)) and not issubclass(owner(after), target(step)):
            raise RelationshipError(
                f"federated_load(): {step} leads to {target(step).__name__}, and {after} does not start there"
            )
    return FederatedLoad(steps)


def owner(step: Step) -> type[Any]:
    """Return the class a step starts from."""
    return step.owner if isinstance(step, FederatedAttribute) else step.parent.class_


def target(step: Step) -> type[Any]:
    """Return the class a step leads to."""
    return step.hop.target if isinstance(step, FederatedAttribute) else step.property.mapper.class_


@dataclass(slots=True)
class Node:
    """A class in the tree of paths, and the steps that lead on from it."""

    model: type[Any]
    steps: dict[str, tuple[Step, Node]] = field(default_factory=dict)

    def add(self, path: tuple[Step, ...]) -> None:
        """Put a path below this node."""
        if not path:
            return
        step = path[0]
        if step.key not in self.steps:
            self.steps[step.key] = step, Node(target(step))
        self.steps[step.key][1].add(path[1:])

    @property
    def federated(self) -> list[tuple[FederatedAttribute, Node]]:
        """The steps to other services."""
        return [(step, node) for step, node in self.steps.values() if isinstance(step, FederatedAttribute)]

    @property
    def ordinary(self) -> list[tuple[InstrumentedAttribute[Any], Node]]:
        """The steps inside the service."""
        return [(step, node) for step, node in self.steps.values() if isinstance(step, InstrumentedAttribute)]

    def services(self) -> set[str]:
        """Return the services that are asked when everything below this node is loaded."""
        asked: set[str] = set()
        for step, node in self.steps.values():
            asked |= {service_of(node.model)} | node.services()
            if isinstance(step, FederatedAttribute) and step.hop.secondary is not None:
                asked.add(step.hop.secondary.service)
        return asked

    def loader_options(self, chosen: Container[Keys] = (), path: Keys = ()) -> list[_AbstractLoad]:
        """Return SQLAlchemy's own options for the ordinary steps from here, which ``path`` leads to.

        ``chosen`` has the paths for which the user's own options say how they are loaded.
        """
        if is_document(self.model):
            return []
        made: list[_AbstractLoad] = []
        for step, node in self.ordinary:
            here = (*path, step.key)
            below = node.loader_options(chosen, here)
            if here not in chosen:
                made.append(selectinload(step).options(*below))
            elif below:
                made.append(defaultload(step).options(*below))
        return made


def chosen_paths(options: Iterable[Any], model: type[Any]) -> set[Keys]:
    """Return the paths from ``model`` for which SQLAlchemy's own loader options are among ``options``."""
    paths: set[Keys] = set()
    for option in options:
        for element in getattr(option, "context", ()) if isinstance(option, _AbstractLoad) else ():
            root, *steps = element.path
            names = tuple(getattr(step, "key", "*") for step in steps[::2])  # "*": all of a class, by load_only()
            if issubclass(root.mapper.class_, model):
                paths.add(names)
    return paths


def trees(options: list[FederatedLoad]) -> list[Node]:
    """Join paths that start alike; one tree for each class they start from."""
    roots: dict[type[Any], Node] = {}
    for option in options:
        roots.setdefault(option.root, Node(option.root)).add(option.path)
    return list(roots.values())
