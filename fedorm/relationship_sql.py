"""A federated relationship as SQL: what it joins on, and the EXISTS of ``has()`` and ``any()``.

Behind each stands a ``RelationshipProperty`` that no mapper knows of. It loads and writes nothing, and has SQLAlchemy's
own ways with joins, aliases, association tables and correlated subqueries.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from sqlalchemy import Cast, ColumnElement, FromClause, String, TypeDecorator, Uuid, and_, bindparam, inspect, null, or_
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.inspection import _inspects
from sqlalchemy.orm import (
    Mapper,
    QueryableAttribute,
    RelationshipProperty,
    aliased,
    configure_mappers,
    foreign,
    registry,
    remote,
)
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.orm.util import AliasedInsp
from sqlalchemy.sql import roles
from sqlalchemy.sql.base import Immutable
from sqlalchemy.sql.compiler import SQLCompiler

from fedorm.entity import is_document, primary_key
from fedorm.exc import RelationshipError, UnsupportedQueryError
from fedorm.keys import Converter

if TYPE_CHECKING:
    from fedorm.relationship import FederatedAttribute, Hop


class JoinTarget(roles.JoinTargetRole, roles.OnClauseRole, Immutable):
    """What lets a relationship stand in ``join()``, ``outerjoin()`` and ``where()``."""

    key: str

    def sql(self) -> QueryableAttribute[Any]:
        """Return the relationship as SQLAlchemy's own; made at first use.

        Raises ``RelationshipError`` or ``KeyTypeError`` for a relationship that cannot work, and
        ``UnsupportedQueryError`` for one whose condition is no SQL.
        """
        made: QueryableAttribute[Any] | None = vars(self).get("_sql")
        if made is None:
            made = vars(self)["_sql"] = _relationship(cast("FederatedAttribute", self))
        return made

    def has(self, criterion: Any = None, **equal: Any) -> ColumnElement[bool]:
        """Return the condition that there is a target and that it fulfils ``criterion``, as an EXISTS.

        ``Order.user.has(User.country == "DE")``, or ``Order.user.has(country="DE")``. Raises SQLAlchemy's
        ``InvalidRequestError`` for a collection.
        """
        return self.sql().has(criterion, **equal)

    def any(self, criterion: Any = None, **equal: Any) -> ColumnElement[bool]:
        """Return the condition that a member of the collection fulfils ``criterion``, as an EXISTS.

        ``User.orders.any(Order.total > 100)``, or ``User.orders.any()`` for one that is not empty. Raises
        SQLAlchemy's ``InvalidRequestError`` for what is no collection.
        """
        return self.sql().any(criterion, **equal)

    def contains(self, member: Any) -> ColumnElement[bool]:
        """Return the condition that ``member`` is in the collection."""
        return self.sql().contains(member)

    def of_type(self, entity: Any) -> QueryableAttribute[Any]:
        """Return the relationship to an alias or a subclass of its target: ``join(Order.user.of_type(buyer))``.

        For a document, the alias of its table: ``Product.__clause_element__().alias()``.
        """
        if isinstance(entity, FromClause):
            entity = aliased(mapped_class(cast("FederatedAttribute", self).hop.target), entity)
        return self.sql().of_type(entity)

    def and_(self, *criteria: Any) -> QueryableAttribute[Any]:
        """Return the relationship with more conditions for its ON: ``outerjoin(User.orders.and_(Order.total > 5))``."""
        return self.sql().and_(*criteria)

    def adapt_to_entity(self, entity: AliasedInsp[Any]) -> QueryableAttribute[Any]:
        """Return the relationship of an alias of its model: ``aliased(Order).user``."""
        return self.sql().adapt_to_entity(entity)

    def __eq__(self, other: object) -> ColumnElement[bool]:  # type: ignore[override]
        """Return the condition that the target is ``other``; for None, that the key is NULL or nothing points here."""
        return self.sql() == other

    def __ne__(self, other: object) -> ColumnElement[bool]:  # type: ignore[override]
        """Return the condition that the target is another one than ``other``, or none."""
        return self.sql() != other

    __hash__ = object.__hash__

    @property
    def parent(self) -> Any:
        """Refuse what SQLAlchemy's own loaders ask: ``joinedload(Order.user)`` cannot be."""
        name = cast("FederatedAttribute", self).name
        raise RelationshipError(
            f"{name} is loaded by  options(federated_load({name})),  not by a loader of SQLAlchemy's own"
        )

    # -- what SQLAlchemy asks of the target of a join

    def __clause_element__(self) -> ColumnElement[Any]:
        return self.sql().__clause_element__()

    @property
    def _propagate_attrs(self) -> Any:
        return self.sql()._propagate_attrs

    @property
    def _annotations(self) -> Any:
        return self.sql()._annotations

    @property
    def _from_objects(self) -> Any:
        return self.sql()._from_objects

    def _gen_cache_key(self, anon_map: Any, bindparams: Any) -> Any:
        return self.sql()._gen_cache_key(anon_map, bindparams)


@_inspects(JoinTarget)
def _inspect(target: JoinTarget) -> QueryableAttribute[Any]:
    return target.sql()


class FederatedProperty(RelationshipProperty[Any]):
    """The ``RelationshipProperty`` behind a federated relationship."""

    inherit_cache = True
    attribute: FederatedAttribute

    class Comparator(RelationshipProperty.Comparator[Any]):
        """Compares with objects and documents by their keys, which are read when the statement is run."""

        def __eq__(self, other: object) -> ColumnElement[bool]:  # type: ignore[override]
            if _is_none(other):
                return or_(*(column.is_(None) for column in self._local())) if self._by_key else ~self._some()
            return self._is(other, many=False)

        def __ne__(self, other: object) -> ColumnElement[bool]:  # type: ignore[override]
            if _is_none(other):
                return and_(*(column.is_not(None) for column in self._local())) if self._by_key else self._some()
            if not self._by_key:
                return ~self._is(other, many=False)
            values = self._values(other, many=False)
            columns = self._local()
            differ = (column != value for column, value in zip(columns, values, strict=True))
            return or_(*differ, *(column.is_(None) for column in columns))

        def contains(self, other: Any, **options: Any) -> ColumnElement[bool]:
            """Return the condition that ``other`` is a member."""
            return self._is(other, many=True)

        @property
        def attribute(self) -> FederatedAttribute:
            """The relationship as it was declared."""
            attribute: FederatedAttribute = cast(Any, self.property).attribute
            return attribute

        @property
        def _by_key(self) -> bool:
            """Whether this side holds the key, and nothing but the key decides."""
            return self.property.direction is MANYTOONE and self.attribute.where is None

        def _some(self) -> ColumnElement[bool]:
            return self._criterion_exists()

        def _is(self, other: object, *, many: bool) -> ColumnElement[bool]:
            attribute = self.attribute
            hop = attribute.hop
            if hop.secondary is None and attribute.where is None:
                values = self._values(other, many=many)
                return and_(*(column == value for column, value in zip(self._local(), values, strict=True)))
            self._check(other, many=many)
            names = primary_key(hop.target)
            target = mapped_class(hop.target)
            columns = [getattr(target, name) for name in names]
            same = (
                column == bindparam(None, callable_=partial(getattr, other, name), type_=column.type, unique=True)
                for name, column in zip(names, columns, strict=True)
            )
            return self._criterion_exists(and_(*same))

        def _values(self, other: object, *, many: bool) -> list[Any]:
            self._check(other, many=many)
            return [
                bindparam(None, callable_=partial(_part, self.attribute, other, place), type_=column.type, unique=True)
                for place, column in enumerate(self._local())
            ]

        def _check(self, other: object, *, many: bool) -> None:
            attribute = self.attribute
            hop = attribute.hop
            if hop.uselist != many:
                advice = "a collection: use contains() or any()" if hop.uselist else "no collection: compare it with =="
                raise RelationshipError(f"{attribute.name} is {advice}")
            if not isinstance(other, hop.target):
                raise RelationshipError(
                    f"{attribute.name} is compared with {hop.target.__name__} objects, not with {type(other).__name__}"
                )

        def _local(self) -> list[Any]:
            entity = cast(Any, self._adapt_to_entity or self._parententity).entity
            return [getattr(entity, name) for name in self.attribute.hop.local]


def declared(attribute: Any) -> Any:
    """Return the declared relationship that ``aliased(Order).user`` stands for; anything else as it is."""
    made = getattr(attribute, "property", None) if isinstance(attribute, QueryableAttribute) else None
    return made.attribute if isinstance(made, FederatedProperty) else attribute


def _is_none(other: object) -> bool:
    return other is None or other is null()


def _part(attribute: FederatedAttribute, target: Any, place: int) -> Any:
    """Return one part of the key that points to ``target``, None where it has none."""
    key = tuple(getattr(target, name) for name in attribute.hop.remote)
    return None if None in key else attribute.to_source(key)[place]


_documents: WeakKeyDictionary[type[Any], type[Any]] = WeakKeyDictionary()
_registry = registry()


def mapped_class(model: type[Any]) -> type[Any]:
    """Return a class that SQLAlchemy has a mapper of: a document's is made for its table, and has no instances."""
    if not is_document(model):
        return model
    made = _documents.get(model)
    if made is None:
        made = type(model.__name__, (), {"__service__": model.__service__, "__module__": model.__module__})
        _registry.map_imperatively(made, cast(Any, model).__clause_element__())
        made = _documents.setdefault(model, made)
    return made


def _relationship(attribute: FederatedAttribute) -> QueryableAttribute[Any]:
    hop = attribute.hop
    source, target = mapped_class(hop.source), mapped_class(hop.target)
    configure_mappers()
    mapper: Mapper[Any] = inspect(source)
    made = FederatedProperty(
        inspect(target), uselist=hop.uselist, viewonly=True, lazy="raise", doc=attribute.name, **_conditions(attribute)
    )
    made.comparator_factory = FederatedProperty.Comparator
    made.attribute = attribute
    made.key = attribute.key
    made.set_parent(mapper, True)
    made.init()
    return QueryableAttribute(source, attribute.key, mapper, made.comparator_factory(made, mapper))


def _conditions(attribute: FederatedAttribute) -> dict[str, Any]:
    hop, secondary = attribute.hop, attribute.hop.secondary
    here = [getattr(mapped_class(hop.source), name) for name in hop.local]
    there = [getattr(mapped_class(hop.target), name) for name in hop.remote]
    if secondary is None:
        key_is_there = hop.uselist or hop.local == primary_key(hop.source)
        if key_is_there:
            there = [foreign(remote(column)) for column in there]
        else:
            here, there = [foreign(column) for column in here], [remote(column) for column in there]
        joined = _equal(hop, here, there, hop.convert)
        return {"primaryjoin": and_(joined, *(remote(one) for one in _own_condition(attribute)))}
    inward, outward = ([foreign(column) for column in side] for side in (secondary.local, secondary.remote))
    return {
        "secondary": secondary.table,
        "primaryjoin": _equal(hop, here, inward, secondary.to_local),
        "secondaryjoin": and_(_equal(hop, outward, there, hop.convert), *_own_condition(attribute)),
    }


def _equal(
    hop: Hop, here: Sequence[Any], there: Sequence[Any], convert: Sequence[Converter | None]
) -> ColumnElement[bool]:
    """Return the condition that keys are equal: where a number meets its text, both as texts.

    The text of a number or UUID is its canonical form, the only one that such a relationship takes for equal.
    """
    pairs = zip(here, there, convert, strict=True)
    return and_(*(_text(one) == _text(two) if change else one == two for one, two, change in pairs))


def _text(column: Any) -> Any:
    kind = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    if isinstance(kind, String):
        return column
    return UuidText(column, String) if isinstance(kind, Uuid) else sql_cast(column, String)


class UuidText(Cast[str]):
    """The canonical text of a UUID."""

    inherit_cache = True


@compiles(UuidText)
def _uuid_text(element: UuidText, compiler: SQLCompiler, **options: Any) -> str:
    if not isinstance(compiler.dialect, PGDialect):  # A federated select's own dialect is one, too.
        raise UnsupportedQueryError(
            f"{compiler.dialect.name} keeps no canonical text of a UUID: a relationship from UUIDs to texts cannot be "
            f"joined inside of such a service; load it with federated_load()"
        )
    return str(compiler.visit_cast(element, **options))  # type: ignore[no-untyped-call]


def _own_condition(attribute: FederatedAttribute) -> list[ColumnElement[bool]]:
    if attribute.where is None:
        return []
    target = attribute.hop.target
    try:
        made = attribute.where(mapped_class(target))
    except Exception as error:
        raise _no_sql(attribute) from error
    if not isinstance(made, ColumnElement):
        raise _no_sql(attribute)
    return [made]


def _no_sql(attribute: FederatedAttribute) -> UnsupportedQueryError:
    return UnsupportedQueryError(
        f"{attribute.name} cannot be joined: its where= makes no SQL of {attribute.hop.target.__name__}; write it as "
        f"a comparison of the target's attributes, lambda target: target.price > 2"
    )
