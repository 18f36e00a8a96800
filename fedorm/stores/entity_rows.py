"""Whole rows by key where a class says what is in them: values are checked and converted by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Annotated, Any

from fedorm.exc import DocumentValidationError, RowError, UnsupportedOperationError
from fedorm.stores.base import DocumentStore
from fedorm.stores.rows import RowAccess, RowShape, Values


class EntityRows(RowAccess):
    """Documents of one class as rows; each is validated by its class before it is written."""

    def __init__(self, store: DocumentStore, shape: RowShape) -> None:
        super().__init__(shape)
        if shape.document is None:
            raise store.error(UnsupportedOperationError, f"{shape.label} is no document class")
        self._documents = store
        self.model: type[Any] = shape.document

    def _document(self, row: Values) -> Any:
        for name in self.shape.fields:
            if name not in row:
                raise InvalidValueError(f"field {name!r} is missing")
        try:
            return self.model.model_validate({name: row[name] for name in self.shape.fields}, by_name=True)
        except ValueError as error:
            raise InvalidValueError(_problems(error)) from error

    def _valid(self, name: str, value: Any) -> Any:
        """Return a value as the field holds it."""
        if name not in self._adapters:
            raise InvalidValueError(f"field {name!r} is none of its fields")
        try:
            return self._adapters[name].validate_python(value)
        except ValueError as error:
            raise InvalidValueError(_problems(error, name)) from error

    @cached_property
    def _adapters(self) -> dict[str, Any]:
        from pydantic import TypeAdapter

        fields: dict[str, Any] = self.model.model_fields
        kinds: dict[str, Any] = {
            name: Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            for name, field in fields.items()
        }
        return {name: TypeAdapter(kind) for name, kind in kinds.items()}

    def _row(self, raw: dict[str, Any]) -> Values:
        """Return the shape's fields of a document as it was read."""
        try:
            document = self._documents.parse(self.model, raw)
        except DocumentValidationError as error:
            raise self._documents.error(RowError, f"{self.shape.label}: {error}") from error
        return {name: getattr(document, name) for name in self.shape.fields}

    @contextmanager
    def _valid_rows(self) -> Iterator[None]:
        try:
            yield
        except InvalidValueError as error:
            raise self._documents.error(RowError, f"{self.shape.label}: {error}") from error
        except UnsupportedOperationError as error:
            raise self._documents.error(RowError, f"{self.shape.label}: {error.args[0]}") from error


class InvalidValueError(Exception):
    """A value that does not fit its field; names the field and leaves the value out."""


def _problems(error: ValueError, name: str = "") -> str:
    told = error.errors(include_input=False, include_url=False) if hasattr(error, "errors") else []
    fields = ((".".join(str(part) for part in (*([name] if name else []), *one["loc"])), one["msg"]) for one in told)
    return "; ".join(f"field {field!r}: {message}" for field, message in fields) or "a value does not fit"
