"""Collections as models declare them and as a MongoDB database has them: indexes and validators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedorm.stores.base import collection_name

HISTORY = "migrations_log"
"""Where Beanie keeps which of its migrations a database is at."""
_VALIDATION = {"validator": {}, "validationLevel": "strict", "validationAction": "error"}
"""What a collection has that says nothing of it."""
_IGNORED = ("v", "ns", "background", "name", "key")
_WAITING = [("state", 1), ("partition", 1), ("position", 1)]
_OWN: dict[str, list[tuple[list[tuple[str, int]], dict[str, Any]]]] = {
    "fedorm_decisions": [],
    "fedorm_inbox": [([("at", 1)], {})],
    "fedorm_outbox": [(_WAITING, {"name": "waiting"}), ([("id", 1)], {"name": "id", "unique": True})],
    "fedorm_outbox_counters": [],
    "fedorm_outbox_deliveries": [
        ([("target", 1), ("next_at", 1)], {}),
        ([("partition", 1), ("key", 1)], {}),
        ([("position", 1)], {}),
    ],
    "fedorm_outbox_partitions": [],
    "fedorm_saga_steps": [],
    "fedorm_sync_positions": [],
}
"""fedorm's own collections, with the indexes that are made where they are used."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index: its fields with their directions, and its options."""

    key: tuple[tuple[str, Any], ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection: its indexes by name, but for that of ``_id``, and how its documents are validated."""

    name: str
    indexes: Mapping[str, Index] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)
    """Of ``validator``, ``validationLevel`` and ``validationAction`` those that are not what they are without it."""


def declared(models: Iterable[type[Any]]) -> dict[str, Collection]:
    """Return the collections of document models, which Beanie has bound to a database; models may share one.

    A validator is ``Settings.validator``, with ``validation_level`` and ``validation_action`` beside it.
    """
    found: dict[str, Collection] = {}
    for model in models:
        name = collection_name(model)
        before = found.get(name, Collection(name))
        indexes = {one["name"]: _index(one) for one in _index_documents(model)}
        validation = {**before.validation, **validation_of(model)}
        found[name] = Collection(name, {**before.indexes, **indexes}, validation)
    return found


def own_collections() -> dict[str, Collection]:
    """Return fedorm's own."""
    from pymongo import IndexModel

    return {
        name: Collection(name, {one["name"]: _index(one) for one in (IndexModel(k, **o).document for k, o in indexes)})
        for name, indexes in _OWN.items()
    }


def _index_documents(model: type[Any]) -> Iterable[Mapping[str, Any]]:
    from beanie.odm.fields import IndexModelField
    from beanie.odm.utils.pydantic import get_model_fields
    from beanie.odm.utils.typing import get_index_attributes
    from pymongo import IndexModel

    indexed = []
    fields: Mapping[str, Any] = get_model_fields(model)  # type: ignore[no-untyped-call]
    for name, info in fields.items():
        attributes = get_index_attributes(info)
        if attributes is not None:
            indexed.append(IndexModelField(IndexModel([(info.alias or name, attributes[0])], **attributes[1])))
    return [one.index.document for one in IndexModelField.merge_indexes(indexed, model.get_settings().indexes or [])]


def _index(document: Mapping[str, Any]) -> Index:
    key = document["key"]
    pairs = key.items() if isinstance(key, Mapping) else key
    options = {name: _plain(value) for name, value in document.items() if name not in _IGNORED}
    return Index(tuple((name, _direction(one)) for name, one in pairs), options)


def _direction(value: Any) -> Any:
    return int(value) if isinstance(value, float) else value


def _plain(value: Any) -> Any:
    """Return what can be written into a file, and compared."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def validation_of(model: type[Any]) -> dict[str, Any]:
    """Return what a model's ``Settings`` say of validation, as ``create_collection()`` takes it."""
    settings = getattr(model, "Settings", None)
    said = {
        "validator": getattr(settings, "validator", None),
        "validationLevel": getattr(settings, "validation_level", None),
        "validationAction": getattr(settings, "validation_action", None),
    }
    return _validation({name: value for name, value in said.items() if value is not None})


def _validation(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(options[name]) for name, usual in _VALIDATION.items() if options.get(name, usual) != usual}


async def present(database: Any) -> dict[str, Collection]:
    """Return the collections of a database, but for the history's and the server's own."""
    found = {}
    async for told in await database.list_collections():
        name = told["name"]
        if told.get("type", "collection") != "collection" or name.startswith("system.") or name == HISTORY:
            continue
        information = await database[name].index_information()
        indexes = {index: _index(one) for index, one in information.items() if index != "_id_"}
        found[name] = Collection(name, indexes, _validation(told.get("options") or {}))
    return found


class Collections:
    """The operations of a migration on collections; each does nothing where it is done already.

    So a migration that was cut short is carried out from its beginning. ``database`` is PyMongo's own.
    """

    def __init__(self, database: Any) -> None:
        self.database = database

    async def create_collection(self, name: str, **options: Any) -> None:
        """Make a collection, with a ``validator`` and other options of PyMongo's ``create_collection()``."""
        if name not in await self.database.list_collection_names():
            await self.database.create_collection(name, **options)

    async def drop_collection(self, name: str) -> None:
        """Drop a collection with all that is in it."""
        await self.database.drop_collection(name)

    async def create_index(self, collection: str, name: str, key: list[tuple[str, Any]], **options: Any) -> None:
        """Make an index, with options of PyMongo's ``create_index()``."""
        await self.database[collection].create_index(key, name=name, **options)

    async def drop_index(self, collection: str, name: str) -> None:
        """Drop an index."""
        if name in await self.database[collection].index_information():
            await self.database[collection].drop_index(name)

    async def set_validation(
        self,
        collection: str,
        validator: Mapping[str, Any] | None = None,
        *,
        level: str = "strict",
        action: str = "error",
    ) -> None:
        """Let a collection validate the documents that are written from now on; without a validator, none."""
        options = {"validator": validator or {}, "validationLevel": level, "validationAction": action}
        await self.database.command("collMod", collection, **options)
