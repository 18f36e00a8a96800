"""A search document's class as the mapping of its index: a field as ``elasticsearch.dsl`` maps it, or by its type."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from elasticsearch import dsl
from pydantic import AnyUrl, BaseModel, SecretStr

Properties = dict[str, dict[str, Any]]

LONGEST_KEYWORD = 256
"""Characters of a text that can be looked for as a whole: as many as in an index that maps by itself."""
GC_DELETES = "1h"
"""How long a new index remembers a deleted document's version, so that an older change does not bring it back."""

_ARRAYS = (list, set, frozenset, tuple, Sequence, AbstractSet)
_TEXTS = (str, AnyUrl, SecretStr, PurePath)
_ADDRESSES = (IPv4Address, IPv4Network, IPv6Address, IPv6Network)


def whole_text() -> dsl.Field:
    """Return the field of a text without one of its own: analyzed, and as a whole beside that."""
    return dsl.Text(fields={"keyword": dsl.Keyword(ignore_above=LONGEST_KEYWORD)})


@lru_cache(maxsize=1024)
def fields_of(model: type[BaseModel]) -> Mapping[str, dsl.Field]:
    """Return the mapped field of each field, by what the index calls it."""
    made: dict[str, dsl.Field] = {}
    for name, field in model.model_fields.items():
        given = _given([*field.metadata, *_metadata(field.annotation)])
        mapped = given if given is not None else _mapped(field.annotation, (model,))
        if name == "id" and given is None and not isinstance(mapped, dsl.Long):
            mapped = dsl.Keyword()  # Documents are sorted by it: texts as they are, times to their last digit.
        made[field.alias or name] = mapped
    return made


def properties_of(model: type[BaseModel]) -> Properties:
    """Return the ``properties`` of the mapping."""
    return {name: field.to_dict() for name, field in fields_of(model).items()}


def mapping_of(models: Sequence[type[Any]]) -> dict[str, Any]:
    """Return the mapping of an index that holds documents of these classes."""
    properties: Properties = {}
    for model in models:
        properties.update(properties_of(model))
    return {"dynamic": "strict", "properties": dict(sorted(properties.items()))}


def settings_of(model: type[Any]) -> dict[str, Any]:
    """Return the settings of a new index: those of ``class Index``, and the analyzers that fields name."""
    settings = dict(getattr(getattr(model, "Index", None), "settings", None) or {})
    analysis = _analysis(model)
    if analysis:
        settings["analysis"] = {**analysis, **settings.get("analysis", {})}
    return {"gc_deletes": GC_DELETES, **settings}


def index_name(prefix: str, collection: str) -> str:
    """Return the name on the server, where names have no capitals."""
    return f"{prefix}{collection}".lower()


def template_of(model: type[Any]) -> Sequence[str]:
    """Return the patterns of names whose indices are made like the class's own; none without ``Index.template``."""
    said = getattr(getattr(model, "Index", None), "template", None) or ()
    return (said,) if isinstance(said, str) else tuple(said)


def _analysis(model: type[Any]) -> dict[str, Any]:
    mapping = dsl.Mapping()
    for name, field in fields_of(model).items():  # type: ignore[arg-type] # mypy does not take a class for hashable
        mapping.field(name, field)
    found: dict[str, Any] = mapping._collect_analysis()
    return found


def _metadata(annotation: Any) -> tuple[Any, ...]:
    """Return what is noted inside of an optional or a list's type."""
    if get_origin(annotation) is Annotated:
        return (*annotation.__metadata__, *_metadata(get_args(annotation)[0]))
    if get_origin(annotation) in (Union, UnionType, *_ARRAYS):
        return tuple(found for one in get_args(annotation) for found in _metadata(one))
    return ()


def _given(metadata: Sequence[Any]) -> dsl.Field | None:
    for one in metadata:
        if isinstance(one, dsl.Field):
            return one
        if isinstance(one, dict) and isinstance(one.get("_field"), dsl.Field):  # What ``mapped_field()`` returns.
            return one["_field"]  # type: ignore[no-any-return]
    return None


def _mapped(annotation: Any, within: tuple[Any, ...]) -> dsl.Field:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _given(annotation.__metadata__) or _mapped(arguments[0], within)
    if origin is Literal:
        kinds = {type(value) for value in arguments}
        return _plain(kinds.pop(), literal=True) if len(kinds) == 1 else _unindexed()
    if origin in (Union, UnionType):
        members = [one for one in arguments if one is not type(None)]
        return _mapped(members[0], within) if len(members) == 1 else _unindexed()
    if origin in _ARRAYS:
        items = set(arguments) - {...}
        return _mapped(items.pop(), within) if len(items) == 1 else _unindexed()
    if not isinstance(annotation, type):
        return _unindexed()
    if issubclass(annotation, BaseModel):
        if annotation in within:
            return _unindexed()
        inner = {}
        for name, field in annotation.model_fields.items():
            given = _given([*field.metadata, *_metadata(field.annotation)])
            inner[field.alias or name] = given or _mapped(field.annotation, (*within, annotation))
        return dsl.Object(properties=inner, dynamic="strict")
    return _plain(annotation)


def _plain(kind: type[Any], *, literal: bool = False) -> dsl.Field:
    if issubclass(kind, enum.Enum):
        values = {type(member.value) for member in kind}
        return _plain(values.pop(), literal=True) if len(values) == 1 else _unindexed()
    if issubclass(kind, _TEXTS):
        return dsl.Keyword() if literal else whole_text()
    if issubclass(kind, (*_ADDRESSES, UUID)):
        return dsl.Keyword()
    for python, made in (
        (bool, dsl.Boolean),
        (int, dsl.Long),
        (float, dsl.Double),
        (Decimal, dsl.Double),
        (bytes, dsl.Binary),
        (datetime.datetime, dsl.Date),
    ):
        if issubclass(kind, python):
            return made()
    return dsl.Date(format="yyyy-MM-dd") if issubclass(kind, datetime.date) else _unindexed()


def _unindexed() -> dsl.Field:
    """Return the field of what has no type of its own: kept as it is, and not to be looked for."""
    return dsl.Object(enabled=False)


# -- comparing


def shown(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return properties without what a server leaves out or adds by itself, so that they can be compared."""
    made = {}
    for name, one in properties.items():
        kept = {key: _text(value) for key, value in one.items() if key not in ("properties", "fields")}
        if "properties" in one:
            kept.pop("type", None) if kept.get("type") == "object" else None
            kept["properties"] = shown(one["properties"])
        if "fields" in one:
            kept["fields"] = shown(one["fields"])
        made[name] = kept
    return made


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return {name: _text(inner) for name, inner in value.items()}
    return [_text(inner) for inner in value] if isinstance(value, list | tuple) else str(value)
