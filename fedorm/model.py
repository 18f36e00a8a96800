"""Models over tables that say which service owns them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sqlalchemy import MetaData, event
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapper, RelationshipProperty, registry

from fedorm.annotations import target_name
from fedorm.catalog import catalog, check_service, service_of
from fedorm.exc import CrossServiceRelationshipError, DuplicateTableError, ModelError
from fedorm.relationship import FederatedAttribute, adopt_inherited, federated_attributes, session_of


class FederatedBase(AsyncAttrs, DeclarativeBase):
    """The base of every model over a table; ``__service__`` names the owner.

    A base of your own (``__abstract__ = True``) may carry ``__services__``, the names that are allowed: a model
    with another one is then refused when its class is made. Its ``type_annotation_map``, and the naming convention and
    the schema of its ``metadata``, are those of its models; the tables themselves are in ``metadata_of(service)``.
    """

    __abstract__ = True
    __service__: ClassVar[str]
    __services__: ClassVar[frozenset[str] | set[str] | None] = None
    __federated__: ClassVar[Mapping[str, FederatedAttribute]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if cls.__dict__.get("__abstract__", False):
            _take_type_map(cls)
            super().__init_subclass__(**kwargs)
            return
        service = check_service(cls)
        if "metadata" not in cls.__dict__:
            cls.metadata = catalog.metadata_like(service, cls.metadata)
        table = cls.__dict__.get("__tablename__")
        if isinstance(table, str) and "__table__" not in cls.__dict__:
            _refuse_duplicate(cls, service, table)
        declared = {key: value for key, value in vars(cls).items() if isinstance(value, RelationshipProperty)}
        super().__init_subclass__(**kwargs)
        catalog.add(cls)
        _plain_relationships.extend((cls, key, prop) for key, prop in declared.items())
        adopt_inherited(cls, lambda owner: "__mapper__" in vars(owner))
        cls.__federated__ = federated_attributes(cls)
        if cls.__federated__:
            event.listen(cls, "expire", _forget_federated, propagate=True)
            event.listen(cls, "refresh", _forget_refreshed, propagate=True)

    @classmethod
    def metadata_of(cls, service: str) -> MetaData:
        """Return the MetaData of a service, to declare tables without a class."""
        return catalog.metadata(service)


def _take_type_map(base: type[Any]) -> None:
    """Give a base with a ``type_annotation_map`` a registry of its own, in which all models know each other's names."""
    if "type_annotation_map" not in vars(base) or "registry" in vars(base):
        return
    above: registry = base.registry
    known = {**above.type_annotation_map, **vars(base)["type_annotation_map"]}
    own = registry(metadata=base.metadata, class_registry=above._class_registry, type_annotation_map=known)
    base.registry = base._sa_registry = own


_plain_relationships: list[tuple[type[Any], str, RelationshipProperty[Any]]] = []


@event.listens_for(Mapper, "before_configured")
def _refuse_crossing_relationships() -> None:
    """Name the mend before SQLAlchemy fails on a join condition, or a foreign key, that cannot exist."""
    for model, key, prop in _plain_relationships:
        target: Any = prop.argument
        if not isinstance(target, type):
            name = target_name(target)
            if name is None:
                continue
            try:
                target = catalog.find(name, near=model)
            except ModelError:
                continue  # SQLAlchemy's own message about the name is better.
        service = getattr(target, "__service__", None)
        if service is not None and service != service_of(model):
            raise CrossServiceRelationshipError(
                source=f"{model.__name__}.{key}",
                service=service_of(model),
                target=target.__name__,
                target_service=service,
            )
    catalog.refuse_crossing_keys(catalog.services)


def _refuse_duplicate(model: type[Any], service: str, table: str) -> None:
    options = model.__dict__.get("__table_args__", ())
    last = options if isinstance(options, dict) else (options[-1] if options else {})
    keywords = last if isinstance(last, dict) else {}
    schema = keywords.get("schema")
    key = f"{schema}.{table}" if schema else table
    if key in catalog.metadata(service).tables and not keywords.get("extend_existing"):
        raise DuplicateTableError(service=service, table=key, model=model.__name__)


def _forget_federated(instance: Any, attributes: Any) -> None:
    """Drop loaded federated values with the columns they were found by."""
    if instance is None:  # Collected, with its state still in the session.
        return
    state = vars(instance)
    for attribute in type(instance).__federated__.values():
        if attribute.slot in state and (attributes is None or attribute.depends_on(attributes)):
            del state[attribute.slot]


def _forget_refreshed(instance: Any, context: Any, attributes: Any) -> None:
    """Do the same where a row is read over what is there, unless that is part of loading them."""
    if not getattr(session_of(instance), "loads", 0):
        _forget_federated(instance, attributes)
