"""What a rule reads and what it writes: models, documents and tables, as fields and keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Column, Table, inspect
from sqlalchemy.orm import Mapper

from fedorm.catalog import catalog, owner_of, service_of
from fedorm.entity import is_document
from fedorm.exc import ModelError
from fedorm.stores.rows import DELETED, VERSION, RowShape
from fedorm.sync.errors import SyncRuleError


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a rule: everything that it has, from which a shape takes what is needed."""

    model: type[Any] | None
    whole: RowShape

    @property
    def label(self) -> str:
        """What errors and figures call it."""
        return self.whole.label

    @property
    def service(self) -> str:
        """Who owns it."""
        return self.whole.service

    @property
    def place(self) -> Any:
        """The table, or the document's class: that of all sides that are the same."""
        return self.whole.table if self.whole.table is not None else self.whole.document

    def shape(self, wanted: set[str]) -> RowShape:
        """Return what is left with these fields, and with those of the key."""
        whole = self.whole
        fields = tuple(name for name in whole.fields if name in wanted or name in whole.key)
        columns = {name: column for name, column in whole.columns.items() if name in fields}
        for extra in (whole.version, whole.deleted):
            if extra is not None:
                columns[extra] = whole.columns[extra]
        return replace(whole, fields=fields, columns=columns)


def side_of(what: Any, tables: Mapping[str, Table], *, rule: str, near: type[Any] | None = None) -> Side:
    """Return the side that a rule names: a model or its name, a table or its ``service.name``."""
    if isinstance(what, str):
        what = _named(what, tables, rule, near)
    if isinstance(what, Table):
        owner = owner_of(what)
        if owner is None:
            raise SyncRuleError(f"sync rule {rule!r}: table {what.name!r} is of no service")
        if (model := what.info.get("fedorm.model")) is not None:
            return _of_document(model)
        return _of_table(what, owner, f"{owner}.{what.name}", {column.key: column for column in what.columns}, rule)
    if is_document(what):
        return _of_document(what)
    mapper: Mapper[Any] | None = inspect(what, raiseerr=False) if isinstance(what, type) else None
    if mapper is None:
        raise SyncRuleError(f"sync rule {rule!r}: {what!r} is no model, no document and no table")
    return _of_model(mapper, rule)


def _named(name: str, tables: Mapping[str, Table], rule: str, near: type[Any] | None) -> Any:
    try:
        return catalog.find(name, near=near or Side)
    except ModelError as error:
        if name in tables:
            return tables[name]
        raise SyncRuleError(f"sync rule {rule!r}: {error}") from None


def _of_document(model: type[Any]) -> Side:
    fields = tuple(name for name in model.model_fields if name not in ("revision_id",))
    shape = RowShape(service=service_of(model), label=model.__name__, key=("id",), fields=fields, document=model)
    return Side(model, shape)


def _of_model(mapper: Mapper[Any], rule: str) -> Side:
    model, table = mapper.class_, mapper.local_table
    if len(mapper.tables) != 1 or mapper.single or not isinstance(table, Table):
        raise SyncRuleError(
            f"sync rule {rule!r}: {model.__name__} is not a whole table of its own: declare the rule for its table, "
            f"or tables"
        )
    columns = {
        attribute.key: attribute.columns[0]
        for attribute in mapper.column_attrs
        if isinstance(attribute.columns[0], Column)
    }
    side = _of_table(table, service_of(model), model.__name__, columns, rule)
    return Side(model, side.whole)


def _of_table(table: Table, service: str, label: str, columns: dict[str, Column[Any]], rule: str) -> Side:
    names = {column: name for name, column in columns.items()}
    key = tuple(names[column] for column in table.primary_key if column in names)
    if not key:
        raise SyncRuleError(f"sync rule {rule!r}: {label} has no primary key, by which its rows could be known")
    shape = RowShape(
        service=service,
        label=label,
        key=key,
        fields=tuple(name for name in columns if name not in (VERSION, DELETED)),
        table=table,
        columns=columns,
        version=VERSION if VERSION in columns else None,
        deleted=DELETED if DELETED in columns else None,
    )
    return Side(None, shape)
