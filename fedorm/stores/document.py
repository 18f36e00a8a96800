"""``FederatedDocument``: a Beanie document that says which service owns it."""

from __future__ import annotations

from copy import copy
from typing import Any, ClassVar

from beanie import Document
from beanie.odm.fields import ExpressionField
from pydantic_core import PydanticUndefined
from sqlalchemy import Table

from fedorm.stores.entity import Entity, EntityMeta


class FederatedDocument(Entity, Document, metaclass=EntityMeta):
    """The base of every document model; ``__service__`` names the owner, ``Settings.name`` the collection."""

    __abstract__: ClassVar[bool] = True
    __shares__: ClassVar[bool] = True

    @classmethod
    def _entity_finish(cls) -> None:
        """Give inherited fields their defaults back.

        Once a federation has been opened, Beanie has put an expression into the place of each field of the classes that
        were bound, for ``Product.price > 2``; pydantic takes it for the default when a class is derived later.
        """
        model: Any = cls
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

    @classmethod
    def _entity_table(cls) -> Table:
        from fedorm.stores.document_table import document_table

        return document_table(cls)
