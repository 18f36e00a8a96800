"""What Beanie and pydantic do for a store: documents from what the database returned, and back."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import DecimalException
from typing import Any
from uuid import uuid4

from fedorm.exc import UnsupportedOperationError
from fedorm.stores.bson_types import field_name, thawed
from fedorm.stores.pydantic_models import PydanticModels


class BeanieModels(PydanticModels):
    """A store whose models are Beanie's: makes and encodes documents, and runs their events."""

    id_name = "_id"

    def entity_base(self) -> type[Any]:
        """Return ``FederatedDocument``."""
        from fedorm.stores.document import FederatedDocument

        return FederatedDocument

    def parse(self, model: type[Any], raw: dict[str, Any]) -> Any:
        """Let Beanie make the document, of a subclass where the collection holds several."""
        from beanie.odm.utils.parsing import parse_obj
        from pydantic import ValidationError

        try:
            return parse_obj(model, thawed(model, raw))
        except ValidationError as error:
            raise self.invalid(model, raw.get("_id"), error) from error

    def encode(self, document: Any) -> dict[str, Any]:
        """Let Beanie encode the document, ``_id`` included."""
        from beanie.odm.utils.dump import get_dict

        try:
            encoded: dict[str, Any] = get_dict(document, to_db=True, keep_nulls=document.get_settings().keep_nulls)
        except DecimalException as error:
            problem = "a decimal has more than the 34 digits of a Decimal128"
            raise self.error(UnsupportedOperationError, problem) from error
        return encoded

    def key_of(self, model: type[Any], raw: dict[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
        """Return the values as the database holds them."""
        return tuple(raw.get(field_name(model, name)) for name in names)

    def new_identity(self, document: Any) -> Any:
        """Return an ``ObjectId`` where the model's ``id`` takes one."""
        from bson import ObjectId

        annotation = type(document).model_fields["id"].annotation
        kinds = (annotation, *getattr(annotation, "__args__", ()))
        takes = any(isinstance(kind, type) and issubclass(kind, ObjectId) for kind in kinds)
        return ObjectId() if takes else None

    def new_revision(self, model: type[Any]) -> Any:
        """Return a UUID for a model with ``use_revision``."""
        return uuid4() if model.get_settings().use_revision else None

    async def notify(self, document: Any, event: str, *, before: bool) -> None:
        """Run what Beanie's ``before_event`` and ``after_event`` have registered."""
        from beanie.odm.actions import ActionDirections, ActionRegistry, EventTypes

        events = {"insert": EventTypes.INSERT, "update": EventTypes.UPDATE, "delete": EventTypes.DELETE}
        await ActionRegistry.run_actions(
            document, events[event], ActionDirections.BEFORE if before else ActionDirections.AFTER, exclude=[]
        )
