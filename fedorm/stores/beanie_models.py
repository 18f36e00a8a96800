"""What Beanie and pydantic do for a store: documents from what the database returned, and back."""

from __future__ import annotations

from decimal import DecimalException
from typing import Any
from uuid import uuid4

from fedorm.exc import DocumentValidationError, UnsupportedOperationError
from fedorm.stores.base import DocumentStore, collection_name
from fedorm.stores.bson_types import is_plain, thawed


class BeanieModels(DocumentStore):
    """A store whose models are Beanie's: makes, encodes and validates documents, and runs their events."""

    def parse(self, model: type[Any], raw: dict[str, Any]) -> Any:
        """Let Beanie make the document, of a subclass where the collection holds several."""
        from beanie.odm.utils.parsing import parse_obj
        from pydantic import ValidationError

        try:
            return parse_obj(model, thawed(model, raw))
        except ValidationError as error:
            raise self._invalid(model, raw.get("_id"), error) from error

    def encode(self, document: Any) -> dict[str, Any]:
        """Let Beanie encode the document, ``_id`` included."""
        from beanie.odm.utils.dump import get_dict

        try:
            encoded: dict[str, Any] = get_dict(document, to_db=True, keep_nulls=document.get_settings().keep_nulls)
        except DecimalException as error:
            problem = "a decimal has more than the 34 digits of a Decimal128"
            raise self.error(UnsupportedOperationError, problem) from error
        return encoded

    def validate(self, document: Any) -> None:
        """Run pydantic over the fields as they are now."""
        from pydantic import ValidationError

        model = type(document)
        values = {name: document.__dict__[name] for name in model.model_fields if name in document.__dict__}
        try:
            checked = model.model_validate(values, by_name=True)
        except ValidationError as error:
            raise self._invalid(model, document.id, error) from error
        for name in values:
            if type(values[name]) is not type(checked.__dict__[name]):
                document.__dict__[name] = checked.__dict__[name]

    def _invalid(self, model: type[Any], identity: Any, error: Any) -> DocumentValidationError:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or model.__name__}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        return DocumentValidationError(problems, service=self.service, model=model.__name__, identity=identity)

    def collection_of(self, model: type[Any]) -> str:
        """Return the name of a model's collection."""
        return collection_name(model)

    def identity(self, model: type[Any], value: Any) -> Any:
        """Let pydantic turn ``value`` into the type of ``id``: a text into an ``ObjectId``."""
        from pydantic import TypeAdapter, ValidationError

        annotation: Any = model.model_fields["id"].annotation
        try:
            return TypeAdapter(annotation).validate_python(value)
        except ValidationError as error:
            raise self._invalid(model, value, error) from None

    def tracks_by_assignment(self, model: type[Any]) -> bool:
        """Say whether every field holds a plain value."""
        return all(is_plain(field.annotation) for field in model.model_fields.values())

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
