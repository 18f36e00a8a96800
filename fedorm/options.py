"""``federated_load()``: which relationships a statement loads, as a tree of paths."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import InstrumentedAttribute, RelationshipProperty, UserDefinedOption, selectinload
from sqlalchemy.orm.strategy_options import _AbstractLoad

from fedorm.entity import is_document
from fedorm.exc import RelationshipError
from fedorm.relationship import FederatedAttribute

Step = FederatedAttribute | InstrumentedAttribute[Any]


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


def federated_load(*path: Any) -> FederatedLoad:
    """Return an option that loads a path of relationships, federated and ordinary ones mixed, at any depth.

    ``select(Order).options(federated_load(Order.items, OrderItem.product, Product.supplier))``. Each federated step
    costs one statement a service and batch, each ordinary one a ``selectinload``. Raises ``RelationshipError`` for
    a step that is no relationship or does not start where the one before it ended.
    """
    if not path:
        raise RelationshipError("federated_load() needs at least one relationship: federated_load(Order.user)")
    for step in path:
        ordinary = isinstance(step, InstrumentedAttribute) and isinstance(step.property, RelationshipProperty)
        if not ordinary and not isinstance(step, FederatedAttribute):
            raise RelationshipError(f"federated_load({step}): this is not a relationship")
    for step, after in itertools.pairwise(path):
        if not issubclass(target(step), owner(after)) and not issubclass(owner(after), target(step)):
            raise RelationshipError(
                f"federated_load(): {step} leads to {target(step).__name__}, and {after} does not start there"
            )
    return FederatedLoad(tuple(path))


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

    def loader_options(self) -> list[_AbstractLoad]:
        """Return SQLAlchemy's own options for the ordinary steps from here."""
        if is_document(self.model):
            return []
        return [selectinload(step).options(*node.loader_options()) for step, node in self.ordinary]


def trees(options: list[FederatedLoad]) -> list[Node]:
    """Join paths that start alike; one tree for each class they start from."""
    roots: dict[type[Any], Node] = {}
    for option in options:
        roots.setdefault(option.root, Node(option.root)).add(option.path)
    return list(roots.values())
