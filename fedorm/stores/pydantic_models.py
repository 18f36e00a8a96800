"""What pydantic does for a store of documents: checks values, makes ids, and says what can change in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Table

from fedorm.exc import DocumentValidationError
from fedorm.stores.base import DocumentStore
from fedorm.stores.conditions import DocumentScan
from fedorm.stores.entity_find import EntityFind
from fedorm.stores.plain_types import is_plain
from fedorm.stores.readers import DocumentReader


@lru_cache(maxsize=4096)
def field_adapter(model: type[Any], name: str) -> Any:
    """Return what validates values of one field alone, by its type. To make one takes longer than most documents do."""
    from pydantic import TypeAdapter

    return TypeAdapter(model.model_fields[name].annotation)


class PydanticModels(DocumentStore):
    """A store whose models are pydantic's."""

    def query(self, reader: DocumentReader, model: type[Any], conditions: Sequence[Any], *, sync: bool) -> Any:
        """Return a query by conditions on fields."""
        return EntityFind(self, reader, model, conditions, sync=sync)

    def document_tables(self) -> Sequence[Table]:
        """Return each class's table: that of the first in a collection by the collection's name."""
        return [model.__clause_element__() for model in self.models()]

    async def count_keys(
        self, model: type[Any], names: Sequence[str], *, transaction: Any = None, sync: bool = False
    ) -> dict[tuple[Any, ...], int]:
        """Read the fields of all documents."""
        table: Table = model.__clause_element__()
        rows = await self.read(DocumentScan(table, tuple(names)), transaction=transaction, sync=sync)
        return dict(Counter(rows))

    def validate(self, document: Any) -> None:
        """Run pydantic over the fields as they are now."""
        from pydantic import ValidationError

        model = type(document)
        values = {name: document.__dict__[name] for name in model.model_fields if name in document.__dict__}
        try:
            checked = model.model_validate(values, by_name=True)
        except ValidationError as error:
            raise self.invalid(model, document.id, error) from error
        for name in values:
            if type(values[name]) is not type(checked.__dict__[name]):
                document.__dict__[name] = checked.__dict__[name]

    def invalid(self, model: type[Any], identity: Any, error: Any) -> DocumentValidationError:
        """Make the error that names the fields that do not fit, and leaves their values out."""
        if not hasattr(error, "errors"):
            problem = f"what is kept cannot be read: {error}"
            return DocumentValidationError(problem, service=self.service, model=model.__name__, identity=identity)
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or model.__name__}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        return DocumentValidationError(problems, service=self.service, model=model.__name__, identity=identity)

    def identity(self, model: type[Any], value: Any) -> Any:
        """Let pydantic turn ``value`` into the type of ``id``."""
        from pydantic import ValidationError

        known: Any = model  # mypy does not take a class for hashable.
        try:
            return field_adapter(known, "id").validate_python(value)
        except ValidationError as error:
            raise self.invalid(model, value, error) from None

    def tracks_by_assignment(self, model: type[Any]) -> bool:
        """Say whether every field holds a plain value."""
        return all(is_plain(field.annotation) for field in model.model_fields.values())
