"""``FederatedDocument``: a Beanie document that says which service owns it."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar

from beanie import Document
from beanie.odm.fields import ExpressionField
from pydantic_core import PydanticUndefined
from sqlalchemy import Table
from sqlalchemy.util import greenlet_spawn

from fedorm.catalog import catalog, check_service
from fedorm.entity import is_document
from fedorm.exc import DuplicateTableError
from fedorm.relationship import FederatedAttribute, adopt_inherited, federated_attributes
from fedorm.stores.base import collection_name

if TYPE_CHECKING:  # By it a type checker knows the fields, and what the constructor takes.
    from pydantic._internal._model_construction import ModelMetaclass as _ModelMetaclass
else:
    _ModelMetaclass = type(Document)


def _restore_defaults(model: type[FederatedDocument]) -> None:
    """Give inherited fields their defaults back.

    Once a federation has been opened, Beanie has put an expression into the place of each field of the classes bound
    then, for ``Product.price > 2``; pydantic takes it for the default when a class is derived later.
    """
    fields = model.__pydantic_fields__
    wrong = [name for name, field in fields.items() if isinstance(field.default, ExpressionField)]
    for name in wrong:
        bases = (getattr(base, "__pydantic_fields__", {}).get(name) for base in model.__mro__[1:])
        inherited = next((one for one in bases if one and not isinstance(one.default, ExpressionField)), None)
        if inherited is not None and name not in vars(model).get("__annotations__", {}):
            fields[name] = copy(inherited)
        else:  # Annotated anew, as in ``id: int``, and without a default.
            fields[name] = copy(fields[name])
            fields[name].default = PydanticUndefined
    if wrong:
        model.model_rebuild(force=True, raise_errors=False)


class _DocumentMeta(_ModelMetaclass):
    """Keeps federated relationships out of pydantic's fields."""

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any
    ) -> type[FederatedDocument]:
        related = {key: value for key, value in namespace.items() if isinstance(value, FederatedAttribute)}
        annotations = dict(namespace.get("__annotations__", {}))
        for key in related:
            del namespace[key]
        if related:
            namespace["__annotations__"] = {key: value for key, value in annotations.items() if key not in related}
        model: type[FederatedDocument] = super().__new__(mcs, name, bases, namespace, **kwargs)
        _restore_defaults(model)
        for key, attribute in related.items():
            type.__setattr__(model, key, attribute)
            attribute.__set_name__(model, key)
        if related:
            type.__setattr__(model, "__federated_annotations__", annotations)
        if not namespace.get("__abstract__", False):
            service = check_service(model)
            _refuse_duplicate(model, service)
            adopt_inherited(model, lambda owner: "__abstract__" not in vars(owner) and is_document(owner))
            type.__setattr__(model, "__federated__", federated_attributes(model))
            catalog.add(model, document=True)
        return model

    def __clause_element__(cls) -> Table:
        """Return the collection as a table, so that the class can stand in a FROM."""
        table = cls.__dict__.get("__document_table__")
        if table is None:
            from fedorm.stores.document_table import document_table

            table = document_table(cls)
            type.__setattr__(cls, "__document_table__", table)
        return table

    @property
    def c(cls) -> Any:
        """The fields as columns: ``Product.c.price``."""
        return cls.__clause_element__().c


class AwaitableAttributes:
    """``await document.awaitable_attrs.supplier``: loads a federated relationship for all siblings at once."""

    __slots__ = ("_document",)

    def __init__(self, document: FederatedDocument) -> None:
        self._document = document

    def __getattr__(self, name: str) -> Any:
        return greenlet_spawn(getattr, self._document, name)


class FederatedDocument(Document, metaclass=_DocumentMeta):
    """The base of every document model; ``__service__`` names the owner, ``Settings.name`` the collection."""

    __abstract__: ClassVar[bool] = True
    __document__: ClassVar[bool] = True
    __service__: ClassVar[str]
    __services__: ClassVar[frozenset[str] | set[str] | None] = None
    __federated__: ClassVar[dict[str, FederatedAttribute]] = {}

    @property
    def awaitable_attrs(self) -> AwaitableAttributes:
        """Give federated relationships as awaitables."""
        return AwaitableAttributes(self)

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
        fields = type(self).model_fields
        return all(getattr(self, name) == getattr(other, name) for name in fields)

    __hash__ = object.__hash__


def _refuse_duplicate(model: type[FederatedDocument], service: str) -> None:
    name = collection_name(model)
    owners = [other for other in catalog.documents(service) if collection_name(other) == name]
    # Beanie's inheritance keeps several classes in one collection: those below the one that was there first.
    if owners and not issubclass(model, owners[0]):
        raise DuplicateTableError(service=service, table=name, model=model.__name__)
