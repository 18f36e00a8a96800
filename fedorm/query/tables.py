"""The tables a statement can name, and what the planner knows of their columns."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Table, types
from sqlalchemy.dialects import postgresql

from fedorm.catalog import catalog
from fedorm.exc import UnknownTableError

_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]


class Tables(Mapping[str, Table]):
    """The tables of some services, by ``service.name``: those of models and those reflected; documents are tables, too.

    A read-only mapping. ``UnknownTableError``, which has the nearest names, is a ``KeyError``.
    """

    def __init__(self, services: Iterable[str], document_tables: Mapping[str, Callable[[], Iterable[Table]]]) -> None:
        self._services = list(services)
        self._document_tables = document_tables
        self._reflected: dict[str, dict[str, Table]] = {}
        self.version = 0
        """Another one after each reflection: a plan that was made before may read columns that have gone."""

    def __getitem__(self, name: str) -> Table:
        service, _, table = name.partition(".")
        return self.find(table, service)[1]

    def __iter__(self) -> Iterator[str]:
        return (f"{service}.{name}" for service in self._services for name in self.of(service))

    def __len__(self) -> int:
        return sum(len(self.of(service)) for service in self._services)

    def __repr__(self) -> str:
        return f"<Tables {', '.join(self)}>"

    def declared(self, service: str) -> dict[str, Table]:
        """Return the tables of a service's models by name."""
        found = {str(table.name): table for table in catalog.metadata(service).tables.values()}
        if service in self._document_tables:
            found.update({str(table.name): table for table in self._document_tables[service]()})
        return found

    def of(self, service: str) -> dict[str, Table]:
        """Return a service's tables by name; one that a model declares is the model's."""
        return {**self._reflected.get(service, {}), **self.declared(service)}

    def add(self, service: str, tables: Mapping[str, Table], *, complete: bool) -> None:
        """Make reflected tables known, in place of those that had their names; of all others too, if ``complete``."""
        others = {} if complete else self._reflected.get(service, {})
        self._reflected[service] = {**others, **tables}
        self.version += 1

    def find(self, name: str, service: str | None) -> tuple[str, Table]:
        """Return the service and the table that a name stands for.

        Raises ``UnknownTableError`` with the nearest names, or with the candidates of a bare name that several have.
        """
        if service is not None:
            table = self.of(service).get(name) if service in self._services else None
            if table is None:
                raise self.unknown(f"{service}.{name}")
            return service, table
        holders = [one for one in self._services if name in self.of(one)]
        if len(holders) != 1:
            candidates = [f"{one}.{name}" for one in holders] or self._near(name)
            raise UnknownTableError(name, near=candidates, ambiguous=bool(holders))
        return holders[0], self.of(holders[0])[name]

    def unknown(self, name: str, others: Iterable[str] = ()) -> UnknownTableError:
        """Make the error for a name that is not there; ``others`` are names that could be meant, too."""
        return UnknownTableError(name, near=self._near(name, others))

    def _near(self, name: str, others: Iterable[str] = ()) -> list[str]:
        known = [*self, *others]
        bare = {full.partition(".")[2]: full for full in known}
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        close += [bare[one] for one in difflib.get_close_matches(name.rpartition(".")[2], list(bare), n=3)]
        return list(dict.fromkeys(close))


def column_types(table: Table) -> dict[str, str]:
    """Return the SQL types of a table's columns, in PostgreSQL's words, as the planner reasons with them."""
    return {str(column.name): sql_type(column.type) for column in table.columns}


_REASONED = (
    types.Integer, types.Numeric, types.Float, types.Boolean, types.String, types.Date, types.DateTime, types.Time,
    types.Interval, postgresql.INTERVAL, types.LargeBinary, types.ARRAY,
)  # fmt: skip


def sql_type(kind: types.TypeEngine[Any]) -> str:
    """Return one type in PostgreSQL's words; what has none, and JSON, is text here."""
    kind = storage_type(kind)
    if isinstance(kind, types.Uuid):
        return "UUID"
    if isinstance(kind, types.Enum) or not isinstance(kind, _REASONED):
        return "TEXT"
    if isinstance(kind, types.ARRAY):
        return sql_type(kind.item_type) + "[]" * (kind.dimensions or 1)
    if isinstance(kind, types.String) and kind.collation is not None:
        return "TEXT"  # A type does not say how texts are ordered.
    try:
        return str(kind.compile(_POSTGRESQL))
    except Exception:  # A dialect's own type; what it raises is not said anywhere.
        return "TEXT"


def storage_type(kind: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
    """Return the type whose values the database holds: that below a user's own type; an interval stays one."""
    while isinstance(kind, types.TypeDecorator) and not isinstance(kind, types.Interval):
        kind = kind.impl_instance
    return kind


def result_type(kind: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
    """Return the type by which a column is read: its storage type; the names of an enumeration's members are texts."""
    kind = storage_type(kind)
    if isinstance(kind, types.ARRAY):
        read = kind.copy()
        read.item_type = _item_type(kind.item_type)
        return read
    if isinstance(kind, types.JSON):
        return ReadJson(kind)
    return types.String() if isinstance(kind, types.Enum) else kind


class ReadJson(types.TypeDecorator[Any]):
    """JSON as it is read for the finish: its own null is ``JSON.NULL`` and not ``None``, which is SQL's."""

    impl = types.JSON
    cache_ok = True

    def __init__(self, kind: types.JSON) -> None:
        super().__init__()
        self.kind = self.impl = kind  # type: ignore[assignment]

    def result_processor(self, dialect: Any, coltype: object) -> Callable[[Any], Any]:
        """Tell the two apart; a driver that reads JSON by itself has not."""
        inner = super().result_processor(dialect, coltype)

        def process(value: Any) -> Any:
            if value is None:
                return None
            read = inner(value) if inner is not None else value
            return types.JSON.NULL if read is None else read

        return process


class JsonText(types.TypeDecorator[Any]):
    """The same, of JSON that is asked for as text, for drivers that would read it by themselves."""

    impl = types.Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        """Read the text."""
        if value is None:
            return None
        read = json.loads(value)
        return types.JSON.NULL if read is None else read


def _item_type(kind: types.TypeEngine[Any]) -> types.TypeEngine[Any]:
    """Return the type by which an array's elements are read; drivers give arrays of enumerations as one text."""
    kind = storage_type(kind)
    if isinstance(kind, types.Enum) and kind.native_enum:
        return postgresql.ENUM(*kind.enums, name=kind.name, schema=kind.schema, create_type=False)
    return result_type(kind)


def to_database(kind: types.TypeEngine[Any], value: Any) -> Any:
    """Return a value of the finish as a parameter of the storage type ``kind``."""
    if isinstance(value, list | tuple):
        return [to_database(kind, one) for one in value]
    if isinstance(value, float) and isinstance(kind, types.Numeric) and not isinstance(kind, types.Float):
        return Decimal(str(value))  # As it is written, and not the fraction that the float is.
    return UUID(str(value)) if isinstance(kind, types.Uuid) and kind.as_uuid and value is not None else value
