"""An index that no model declares, as a table: by its mapping, and by a sample for fields that hold several values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Column, MetaData, Table, types

from fedorm.stores.elasticsearch_scan import agreed
from fedorm.stores.entity_table import COLLECTION, FIELD, MODEL, DocumentJSON
from fedorm.stores.reflecting import Wanted

SAMPLE = 500
"""How many documents are looked at."""
_TYPES: Mapping[str, type[types.TypeEngine[Any]]] = (
    dict.fromkeys(("long", "integer", "short", "byte"), types.BigInteger)
    | dict.fromkeys(("double", "float", "half_float", "scaled_float"), types.Float)
    | dict.fromkeys(("keyword", "constant_keyword", "wildcard", "text", "ip", "version", "match_only_text"), types.Text)
    | dict.fromkeys(("date", "date_nanos"), types.DateTime)
    | {"boolean": types.Boolean, "binary": types.LargeBinary, "unsigned_long": types.Numeric}
)


async def reflect_indices(client: Any, prefix: str, metadata: MetaData, wanted: Wanted) -> None:
    """Put the indices, and what aliases lead to, into ``metadata``, by their names without the prefix."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    answer = await client.indices.get(index=f"{prefix}*", expand_wildcards="open")
    for index, one in answer.items():
        for called in [index, *(alias for alias in one.get("aliases", {}) if alias.startswith(prefix))]:
            name = called.removeprefix(prefix)
            if name and not name.startswith(".") and wanted(name):
                found.setdefault(name, []).append(one.get("mappings", {}).get("properties", {}))
    for name, mappings in found.items():
        hits = (await client.search(index=f"{prefix}{name}", size=SAMPLE))["hits"]["hits"]
        index_table(metadata, name, agreed(mappings), [hit.get("_source", {}) for hit in hits])


def index_table(
    metadata: MetaData, name: str, properties: Mapping[str, Any], documents: Sequence[Mapping[str, Any]]
) -> Table:
    """Make the table of an index: a column is called as its field is, ``address.city`` one inside of another.

    Its key is the field ``id``, which documents of fedorm's have, else the name by which the index knows them.
    """
    key = "id" if "id" in properties else "_id"
    columns = [] if key in properties else [Column(key, types.Text(), primary_key=True, info={FIELD: key})]
    for path, kind in _fields(properties, documents):
        columns.append(Column(path, kind, primary_key=path == key, info={FIELD: path}))
        # SELECT * and select() of the table have the document within as a whole.
        columns[-1]._omit_from_statements = "." in path
    return Table(name, metadata, *columns, info={COLLECTION: name, MODEL: None})


def _fields(
    properties: Mapping[str, Any], documents: Sequence[Mapping[str, Any]], within: str = ""
) -> Iterator[tuple[str, types.TypeEngine[Any]]]:
    for name, one in properties.items():
        values = [document[name] for document in documents if document.get(name) is not None]
        kind = _type(one)
        if any(isinstance(value, list) for value in values):
            kind = ARRAY(kind)
        yield f"{within}{name}", kind
        if "properties" in one and one.get("type", "object") == "object":
            inner = [value for value in values if isinstance(value, Mapping)]
            yield from _fields(one["properties"], inner, f"{within}{name}.")


def _type(one: Mapping[str, Any]) -> types.TypeEngine[Any]:
    made = _TYPES.get(str(one.get("type", "object")))
    if made is None:
        return DocumentJSON()
    if made is types.DateTime:
        return types.Date() if one.get("format") in ("yyyy-MM-dd", "strict_date") else types.DateTime(timezone=True)
    return made()
