"""A collection that no model declares, as a table: by its validator, or by a sample of its documents."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from bson import Decimal128, ObjectId
from sqlalchemy import ARRAY, Column, MetaData, Table, types

from fedorm.stores.document_table import ObjectIdText
from fedorm.stores.entity_table import COLLECTION, FIELD, MODEL, DocumentJSON
from fedorm.stores.reflecting import Wanted

SAMPLE = 500
"""How many documents are looked at."""

Documents = Sequence[Mapping[str, Any]]
Kinds = frozenset[str]

_INTEGERS, _NUMBERS = frozenset({"int", "long"}), frozenset({"int", "long", "double", "number"})
_TYPES: Mapping[str, types.TypeEngine[Any]] = {
    "objectId": ObjectIdText(),
    "string": types.Text(),
    "bool": types.Boolean(),
    "boolean": types.Boolean(),
    "date": types.DateTime(timezone=True),
    "binData": types.LargeBinary(),
    "uuid": types.Uuid(),
}
_PYTHON: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "bool"), (int, "long"), (float, "double"), (str, "string"), (ObjectId, "objectId"), (Decimal128, "decimal"),
    (datetime.datetime, "date"), (UUID, "uuid"), (bytes, "binData"), (list, "array"), (Mapping, "object"),
)  # fmt: skip


async def reflect_collections(database: Any, metadata: MetaData, wanted: Wanted) -> None:
    """Put the collections and views of a database into ``metadata``."""
    for one in await (await database.list_collections()).to_list(None):
        name = one["name"]
        if not name.startswith("system.") and wanted(name):
            sample = await database[name].aggregate([{"$sample": {"size": SAMPLE}}])
            collection_table(metadata, name, one.get("options") or {}, await sample.to_list(None))


def collection_table(metadata: MetaData, name: str, options: Mapping[str, Any], documents: Documents) -> Table:
    """Make the table of a collection: a column is called as its field is, ``address.city`` one inside of another.

    ``options`` are the collection's own, with the validator; what it leaves open is taken from ``documents``, a sample.
    A field whose values have several types is JSON.
    """
    fields = list(_fields(json_schema(options.get("validator") or {}), documents))
    if not any(name == "_id" for name, _ in fields):
        fields.insert(0, ("_id", ObjectIdText()))
    columns = []
    for path, kind in fields:
        columns.append(Column(path, kind, primary_key=path == "_id", info={FIELD: path}))
        # SELECT * and select() of the table have the document within as a whole.
        columns[-1]._omit_from_statements = "." in path
    return Table(name, metadata, *columns, info={COLLECTION: name, MODEL: None})


def json_schema(validator: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the ``$jsonSchema`` of a validator, an empty one where there is none."""
    parts = [validator, *validator.get("$and", ())]
    return next((part["$jsonSchema"] for part in parts if "$jsonSchema" in part), {})


def _fields(schema: Mapping[str, Any], documents: Documents, within: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each field's path and type, those inside of a document right after it."""
    properties = schema.get("properties") or {}
    names = list(properties)
    if not properties or schema.get("additionalProperties", True):
        names = list(dict.fromkeys([*names, *(name for one in documents for name in one)]))
    for name in names:
        if not name or "." in name:
            continue  # The path could not be told from one that leads into a document.
        path, declared = f"{within}{name}", properties.get(name) or {}
        values = [one[name] for one in documents if one.get(name) is not None]
        kinds = _declared_kinds(declared) or _kinds(values)
        yield path, _type(kinds, declared, values)
        if kinds == {"object"}:
            inner = [value for value in values if isinstance(value, Mapping)]
            yield from _fields(declared, inner, f"{path}.")


def _declared_kinds(declared: Mapping[str, Any]) -> Kinds:
    given = declared.get("bsonType") or declared.get("type") or ()
    kinds = {given} if isinstance(given, str) else set(given)
    if not kinds and declared.get("enum"):
        kinds = set(_kinds(declared["enum"]))
    if not kinds and "properties" in declared:
        kinds = {"object"}
    return frozenset(kinds - {"null"})


def _kinds(values: Iterable[Any]) -> Kinds:
    return frozenset(_kind(value) for value in values if value is not None)


def _kind(value: Any) -> str:
    return next((name for python, name in _PYTHON if isinstance(value, python)), type(value).__name__)


def _type(kinds: Kinds, declared: Mapping[str, Any], values: Sequence[Any]) -> types.TypeEngine[Any]:
    if kinds == {"array"}:
        return _array(declared, [inner for value in values if isinstance(value, list) for inner in value])
    if kinds == {"binData"} and values and _kinds(values) == {"uuid"}:
        return types.Uuid()  # To a validator they are all the same.
    if kinds and kinds <= _INTEGERS:
        return types.BigInteger()
    if kinds and kinds <= _NUMBERS:
        return types.Float()
    if "decimal" in kinds and kinds - {"decimal"} <= _INTEGERS:
        return types.Numeric()
    return _TYPES.get(next(iter(kinds)), DocumentJSON()) if len(kinds) == 1 else DocumentJSON()


def _array(declared: Mapping[str, Any], elements: Sequence[Any]) -> types.TypeEngine[Any]:
    items = declared.get("items")
    items = items if isinstance(items, Mapping) else {}
    kinds = _declared_kinds(items) or _kinds(elements)
    if not kinds:
        return DocumentJSON()
    inner = _type(kinds, items, elements)
    return ARRAY(DocumentJSON() if isinstance(inner, ARRAY) else inner)
