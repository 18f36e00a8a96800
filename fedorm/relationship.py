"""``federated_relationship()``: an attribute whose value lives in another service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from sqlalchemy import Column, Table
from sqlalchemy.orm import object_session

from fedorm.annotations import read_annotation
from fedorm.catalog import catalog, owner_of, service_of
from fedorm.collection import FederatedList
from fedorm.entity import column_type, columns_of, is_document, key_type, primary_key
from fedorm.exc import DetachedError, FederatedLazyLoadError, KeyTypeError, RelationshipError, UnloadedKeyError
from fedorm.keys import Converter, converter
from fedorm.relationship_sql import JoinTarget

T = TypeVar("T")
Names = str | Sequence[str] | None


class Federated(Generic[T]):
    """The annotation of a federated relationship: ``user: Federated["User"]``, ``orders: Federated[list["Order"]]``.

    On an instance it is the loaded value; on the class it is the ``FederatedAttribute`` that ``federated_load`` takes.
    """

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> FederatedAttribute: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T: ...
        def __get__(self, instance: object, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: T) -> None: ...


@dataclass(frozen=True, slots=True)
class Secondary:
    """An association table: its service, and its columns towards the source and the target."""

    table: Table
    service: str
    local: tuple[Column[Any], ...]
    remote: tuple[Column[Any], ...]
    to_local: tuple[Converter | None, ...]


@dataclass(frozen=True, slots=True)
class Hop:
    """A relationship with its names resolved: from ``local`` attributes of a model to ``remote`` ones of ``target``."""

    name: str
    source: type[Any]
    target: type[Any]
    service: str
    uselist: bool
    local: tuple[str, ...]
    remote: tuple[str, ...]
    convert: tuple[Converter | None, ...]
    """From the local side (or the association table) to the type of ``remote``."""
    secondary: Secondary | None
    to_primary_key: bool
    """Whether ``remote`` is the target's whole primary key, so that the identity map can answer."""
    back: FederatedAttribute | None


class FederatedAttribute(Federated[Any], JoinTarget):
    """The descriptor behind a federated relationship; names are resolved at first use.

    In a statement it is what SQLAlchemy's own relationships are: the target of a join, and the maker of conditions.
    """

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = options
        self.where: Any = options["where"]
        self.order_by: Any = options["order_by"]
        self.missing: str = options["missing"]
        self._hop: Hop | None = None
        self.key = ""
        self.owner: type[Any]
        self.declared_on: type[Any]
        """The class with the annotation: the owner, or the mixin or abstract base that it inherits from."""

    def __set_name__(self, owner: type[Any], key: str) -> None:
        self.owner = self.declared_on = owner
        self.key, self.slot = key, f"_federated_{key}"

    def copy_for(self, owner: type[Any]) -> FederatedAttribute:
        """Return the same relationship for a model that inherits it from a class which is none."""
        copy = FederatedAttribute(**self.options)
        copy.__set_name__(owner, self.key)
        copy.declared_on = self.declared_on
        return copy

    @property
    def name(self) -> str:
        """The attribute as a user writes it: ``Order.user``."""
        return f"{self.owner.__name__}.{self.key}"

    @property
    def hop(self) -> Hop:
        """The resolved relationship. Raises ``RelationshipError`` or ``KeyTypeError`` for one that cannot work."""
        if self._hop is None:
            self._hop = resolve(self)
        return self._hop

    def depends_on(self, columns: Any) -> bool:
        """Say whether the value was found by one of the attributes named in ``columns``."""
        return self.key in columns or bool(set(self.hop.local) & set(columns))

    # -- on instances

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        try:
            return instance.__dict__[self.slot]
        except KeyError:
            return self._lazily(instance)

    def _lazily(self, instance: Any) -> Any:
        session: Any = session_of(instance)
        if session is None:
            raise DetachedError(
                f"{self.name} is not loaded and its {self.owner.__name__} belongs to no session: add it to one, "
                f"or load the attribute with  federated_load({self.name})  before the session closes"
            )
        if not session.can_wait():
            raise FederatedLazyLoadError(self.name, self.owner.__name__.lower())
        session.load_siblings(instance, self)
        return instance.__dict__[self.slot]

    def __set__(self, instance: Any, value: Any) -> None:
        hop, before = self.hop, instance.__dict__.get(self.slot)
        if hop.uselist and before is value:
            return  # The end of  user.orders += [...], which has changed the list itself.
        if hop.uselist or hop.secondary is not None:
            raise RelationshipError(
                f"{self.name} is a collection: change it with append() and remove(), or set the members' keys"
            )
        if hop.local == primary_key(hop.source):
            raise RelationshipError(f"{self.name} is found by the target's key: set that key, on the target")
        for name, part in zip(hop.local, self._keys_of(value), strict=True):
            setattr(instance, name, part)
        self.commit(instance, value)
        if hop.back is not None and before is not value:
            hop.back.loses(before, instance)
            hop.back.gains(value, instance)

    def gains(self, instance: Any, other: Any) -> None:
        """Let this side show that ``other`` now points to ``instance``, if it is loaded; no key is touched."""
        if instance is None or self.slot not in instance.__dict__:
            return
        if not self.hop.uselist:
            self.commit(instance, other)
        elif other not in instance.__dict__[self.slot]:
            list.append(instance.__dict__[self.slot], other)

    def loses(self, instance: Any, other: Any) -> None:
        """Let this side show that ``other`` no longer points to ``instance``, if it is loaded; no key is touched."""
        value = instance.__dict__.get(self.slot) if instance is not None else None
        if value is other and other is not None:
            self.commit(instance, None)
        elif isinstance(value, FederatedList) and other in value:
            list.remove(value, other)

    def _keys_of(self, target: Any) -> list[Any]:
        """Return the local key that points to ``target``, in the local side's types."""
        hop = self.hop
        if target is None:
            return [None] * len(hop.local)
        values = []
        for remote in hop.remote:
            value = getattr(target, remote)
            if value is None:
                raise UnloadedKeyError(
                    f"{self.name}: the {hop.target.__name__} has no {remote} yet; flush it first, then assign it"
                )
            values.append(value)
        return list(self.to_source(tuple(values)))

    def to_source(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a key of the target in the types of the source."""
        hop, name = self.hop, self.name
        changes = [
            converter(key_type(hop.target, remote, what=name), key_type(hop.source, local, what=name), what=name)
            for local, remote in zip(hop.local, hop.remote, strict=True)
        ]
        return tuple(change(part) if change else part for change, part in zip(changes, key, strict=True))

    def commit(self, instance: Any, value: Any) -> None:
        """Set ``value`` as loaded, without touching any key."""
        instance.__dict__[self.slot] = value

    def collection(self, instance: Any, members: Sequence[Any]) -> FederatedList[Any]:
        """Make the list that ``instance`` gets for its loaded members."""
        return FederatedList(members, instance, self._member_changes)

    def _member_changes(self, owner: Any, member: Any, arrives: bool) -> None:
        hop = self.hop
        if hop.secondary is not None:
            raise RelationshipError(
                f"{self.name} goes through the table {hop.secondary.table.name!r}: insert and delete its rows"
            )
        for local, remote, convert in zip(hop.local, hop.remote, hop.convert, strict=True):
            value = getattr(owner, local) if arrives else None
            if arrives and value is None:
                raise UnloadedKeyError(f"{self.name}: the {hop.source.__name__} has no {local} yet; flush it first")
            setattr(member, remote, convert(value) if convert and value is not None else value)
        if hop.back is not None:
            before = member.__dict__.get(hop.back.slot)
            if arrives and before is not owner:
                self.loses(before, member)
            hop.back.commit(member, owner if arrives else None)
        session = session_of(owner)
        if arrives and session is not None and session_of(member) is None:
            session.add(member)

    def __repr__(self) -> str:
        return f"<federated_relationship {self.name}>"


def federated_relationship(
    target: str | type[Any] | None = None,
    *,
    local_key: Names = None,
    remote_key: Names = None,
    secondary: str | Table | type[Any] | Callable[[], Any] | None = None,
    secondary_local: Names = None,
    secondary_remote: Names = None,
    uselist: bool | None = None,
    order_by: Any = None,
    where: Any = None,
    back_populates: str | None = None,
    missing: Literal["none", "raise"] = "none",
) -> Any:
    """Declare an attribute whose value is found in another service by equal keys.

    ``target`` and ``uselist`` are read from the annotation, ``Federated["User"]`` or ``Federated[list["Order"]]``,
    when not given. ``local_key`` and ``remote_key`` name attributes of the two sides, several for a composite key;
    the one left out is that side's primary key, and one of them must be given unless ``secondary`` is.
    ``secondary`` is an association table, or the model over it or its name, in any SQL service; ``secondary_local`` and
    ``secondary_remote`` are its columns. ``order_by`` names attributes of the target (``"-id"``: descending) or is a
    callable that takes the target class and returns expressions; ``where`` is such a callable that returns the
    target's own condition. ``back_populates`` names the relationship that leads back. ``missing="raise"`` makes a
    key that points to nothing a ``MissingTargetError`` instead of None.
    """
    if missing not in ("none", "raise"):
        raise RelationshipError(f'missing={missing!r}: write "none" or "raise"')
    if secondary is None and local_key is None and remote_key is None:
        raise RelationshipError(
            "federated_relationship() needs local_key= (this side points there) or remote_key= (that side points here)"
        )
    if secondary is not None and (secondary_local is None or secondary_remote is None):
        raise RelationshipError("secondary= needs secondary_local= and secondary_remote=, its columns to either side")
    return FederatedAttribute(
        target=target, local_key=local_key, remote_key=remote_key, secondary=secondary,
        secondary_local=secondary_local, secondary_remote=secondary_remote, uselist=uselist, order_by=order_by,
        where=where, back_populates=back_populates, missing=missing,
    )  # fmt: skip


def session_of(instance: Any) -> Any:
    """Return the session an instance or a document is in, None without one."""
    if is_document(type(instance)):
        reference = instance.__dict__.get("_federated_session")
        return reference() if reference is not None else None
    return object_session(instance)


def adopt_inherited(model: type[Any], is_model: Callable[[type[Any]], bool]) -> None:
    """Give ``model`` relationships of its own for those of its mixins and abstract bases, which have no keys."""
    for key, attribute in federated_attributes(model).items():
        if not is_model(attribute.owner):
            type.__setattr__(model, key, attribute.copy_for(model))


def federated_attributes(model: type[Any]) -> dict[str, FederatedAttribute]:
    """Return the federated relationships of a class, inherited ones included."""
    found: dict[str, FederatedAttribute] = {}
    for base in reversed(model.__mro__):
        found.update({key: value for key, value in vars(base).items() if isinstance(value, FederatedAttribute)})
    return found


# -- resolving names -------------------------------------------------------------------------------


def resolve(attribute: FederatedAttribute) -> Hop:
    """Look up the target and its keys, and check that the two sides can match."""
    name, source, options = attribute.name, attribute.owner, attribute.options
    target, uselist = _target(attribute)
    local = _names(options["local_key"]) or primary_key(source)
    remote = _names(options["remote_key"]) or primary_key(target)
    back_name = options["back_populates"]
    back = _back(attribute, target, back_name) if back_name is not None else None
    secondary = None
    if options["secondary"] is not None:
        secondary, convert = _secondary(attribute, target, local, remote)
    else:
        if len(local) != len(remote):
            raise RelationshipError(
                f"{name}: {len(local)} local key column(s) cannot match {len(remote)} remote one(s)"
            )
        convert = tuple(
            converter(key_type(source, here, what=name), key_type(target, there, what=name),
                      what=f"{name} ({source.__name__}.{here} and {target.__name__}.{there})")
            for here, there in zip(local, remote, strict=True)
        )  # fmt: skip
    return Hop(
        name, source, target, service_of(target), uselist, tuple(local), tuple(remote), convert, secondary,
        set(remote) == set(primary_key(target)), back,
    )  # fmt: skip


def _target(attribute: FederatedAttribute) -> tuple[type[Any], bool]:
    wanted, uselist = attribute.options["target"], attribute.options["uselist"]
    declared: Mapping[str, Any] = vars(attribute.declared_on)
    annotations: Mapping[str, Any] = declared.get("__federated_annotations__") or declared.get("__annotations__", {})
    annotated, many = read_annotation(annotations.get(attribute.key))
    wanted = wanted or annotated
    if wanted is None:
        raise RelationshipError(f'{attribute.name}: annotate it, Federated["Target"], or name the target')
    target = wanted if isinstance(wanted, type) else catalog.find(wanted, near=attribute.owner)
    if not hasattr(target, "__service__"):
        raise RelationshipError(f"{attribute.name}: {target.__name__} is not a fedorm model")
    return target, many if uselist is None else uselist


def _names(given: Names) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def _secondary(
    attribute: FederatedAttribute, target: type[Any], local: Sequence[str], remote: Sequence[str]
) -> tuple[Secondary, tuple[Converter | None, ...]]:
    name, source, options = attribute.name, attribute.owner, attribute.options
    given = options["secondary"]
    if callable(given) and not isinstance(given, type):
        given = given()
    if isinstance(given, str):
        given = catalog.find(given, near=source)
    table = given if isinstance(given, Table) else getattr(given, "__table__", None)
    service = owner_of(table) if table is not None else None
    if table is None or service is None:
        raise RelationshipError(f"{name}: secondary= must be a table in a service's MetaData, or a model over one")
    here = columns_of(table, _names(options["secondary_local"]), what=name)
    there = columns_of(table, _names(options["secondary_remote"]), what=name)
    if len(here) != len(local) or len(there) != len(remote):
        raise RelationshipError(f"{name}: the columns of {table.name!r} are not as many as the keys they match")
    inward = tuple(
        converter(key_type(source, key, what=name), column_type(column), what=f"{name} ({key} and {column})")
        for key, column in zip(local, here, strict=True)
    )
    outward = tuple(
        converter(column_type(column), key_type(target, key, what=name), what=f"{name} ({column} and {key})")
        for key, column in zip(remote, there, strict=True)
    )
    return Secondary(table, service, here, there, inward), outward


def _back(attribute: FederatedAttribute, target: type[Any], name: str) -> FederatedAttribute:
    back = federated_attributes(target).get(name)
    if back is None:
        raise RelationshipError(
            f"{attribute.name}: back_populates={name!r}, but {target.__name__} has no such federated relationship"
        )
    if back.options["back_populates"] not in (None, attribute.key):
        raise RelationshipError(
            f"{attribute.name} and {back.name} do not populate each other: "
            f"{back.name} says back_populates={back.options['back_populates']!r}"
        )
    return back


def convert_key(hop: Hop, key: tuple[Any, ...], convert: Sequence[Converter | None]) -> tuple[Any, ...]:
    """Return ``key`` in the other side's types. Raises ``KeyTypeError`` for a value that has no equal there."""
    try:
        return tuple(change(part) if change is not None else part for change, part in zip(convert, key, strict=True))
    except Exception as error:  # bson's InvalidId derives from no common base.
        raise KeyTypeError(
            f"{hop.name}: the key {key!r} has no equal among {hop.target.__name__}'s: {error}"
        ) from error
