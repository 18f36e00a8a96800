"""What the models of every store of documents have in common: a service, relationships, columns, a note of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel
from sqlalchemy import Table
from sqlalchemy.util import greenlet_spawn

from fedorm.catalog import catalog, check_service
from fedorm.entity import is_document
from fedorm.exc import DuplicateTableError, ModelError
from fedorm.relationship import FederatedAttribute, adopt_inherited, federated_attributes
from fedorm.stores.base import collection_name

if TYPE_CHECKING:  # By it a type checker knows the fields, and what the constructor takes.
    from pydantic._internal._model_construction import ModelMetaclass as _ModelMetaclass
else:
    _ModelMetaclass = type(BaseModel)


class EntityMeta(_ModelMetaclass):
    """Keeps federated relationships out of pydantic's fields, and makes each model known."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Any:
        """Make the class, and put its relationships back where pydantic has seen none."""
        related = {key: value for key, value in namespace.items() if isinstance(value, FederatedAttribute)}
        annotations = dict(namespace.get("__annotations__", {}))
        for key in related:
            del namespace[key]
        if related:
            namespace["__annotations__"] = {key: value for key, value in annotations.items() if key not in related}
        model: Any = super().__new__(mcs, name, bases, namespace, **kwargs)
        model._entity_finish()
        for key, attribute in related.items():
            type.__setattr__(model, key, attribute)
            attribute.__set_name__(model, key)
        if related:
            type.__setattr__(model, "__federated_annotations__", annotations)
        if not namespace.get("__abstract__", False):
            if "id" not in model.model_fields:
                raise ModelError(f"{name} has no field  id,  by which its objects are known")
            service = check_service(model)
            _refuse_duplicate(model, service)
            adopt_inherited(model, lambda owner: "__abstract__" not in vars(owner) and is_document(owner))
            type.__setattr__(model, "__federated__", federated_attributes(model))
            catalog.add(model, document=True)
        return model

    def __clause_element__(cls) -> Table:
        """Return the collection as a table, so that the class can stand in a FROM."""
        table: Table | None = cls.__dict__.get("__document_table__")
        if table is None:
            model: Any = cls
            table = model._entity_table()
            type.__setattr__(cls, "__document_table__", table)
        return table

    @property
    def c(cls) -> Any:
        """The fields as columns: ``Product.c.price``."""
        return cls.__clause_element__().c


class AwaitableAttributes:
    """``await document.awaitable_attrs.supplier``: loads a federated relationship for all siblings at once."""

    __slots__ = ("_document",)

    def __init__(self, document: Any) -> None:
        self._document = document

    def __getattr__(self, name: str) -> Any:
        return greenlet_spawn(getattr, self._document, name)


class Entity:
    """What a store's base class takes beside that of its document library, before it, with ``EntityMeta``."""

    __document__: ClassVar[bool] = True
    __service__: ClassVar[str]
    __services__: ClassVar[frozenset[str] | set[str] | None] = None
    __federated__: ClassVar[dict[str, FederatedAttribute]] = {}
    __until_written__: ClassVar[tuple[str, ...]] = ()
    """Keys in an object's ``__dict__`` of what is said of its next write alone; a rollback undoes them, too."""
    __shares__: ClassVar[bool] = False
    """Whether what is in a collection says which of several classes it is of."""

    @property
    def awaitable_attrs(self) -> AwaitableAttributes:
        """Give federated relationships as awaitables."""
        return AwaitableAttributes(self)

    @classmethod
    def _entity_finish(cls) -> None:
        """Put right what the document library has made of the class."""

    @classmethod
    def _entity_table(cls) -> Table:
        """Make the collection's table."""
        from fedorm.stores.entity_table import entity_table

        return entity_table(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        attribute = type(self).__federated__.get(name)
        if attribute is not None:
            attribute.__set__(self, value)
            return
        super().__setattr__(name, value)
        self.__dict__["_federated_touched"] = True

    def __eq__(self, other: object) -> bool:
        """Compare by class and by fields, ``id`` included."""
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        model: Any = type(self)
        return all(getattr(self, name) == getattr(other, name) for name in model.model_fields)

    __hash__ = object.__hash__


def siblings_of(model: type[Any]) -> list[type[Any]]:
    """Return the models of a model's service that the same store can hold, itself included once it is known."""
    entities = [base for base in model.__mro__ if base is not Entity and issubclass(base, Entity)]
    return [other for other in catalog.documents(model.__service__) if issubclass(other, entities[-1])]


def _refuse_duplicate(model: type[Any], service: str) -> None:
    name = collection_name(model)
    owners = [other for other in siblings_of(model) if other is not model and collection_name(other) == name]
    # Inheritance may keep several classes in one collection: those below the one that was there first.
    if owners and not (model.__shares__ and issubclass(model, owners[0])):
        raise DuplicateTableError(service=service, table=name, model=model.__name__)
