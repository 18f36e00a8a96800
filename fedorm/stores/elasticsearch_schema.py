"""Indices and index templates: what documents declare, and what a server has."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from elasticsearch import BadRequestError

from fedorm.stores.base import collection_name
from fedorm.stores.elasticsearch_mapping import index_name, mapping_of, settings_of, shown, template_of

ADDED = ("creation_date", "provided_name", "uuid", "version", "routing", "history", "resize")
"""Settings of an index that its server gives it."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index, or an alias that leads to one, and its template where other indices are made like it."""

    name: str
    """With the prefix."""
    mappings: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    patterns: tuple[str, ...] = ()
    """Names of indices that the template is for; none: there is no template."""

    @property
    def template(self) -> dict[str, Any]:
        """What new indices get."""
        return {"mappings": dict(self.mappings), "settings": dict(self.settings)}


def declared(documents: Sequence[type[Any]], prefix: str) -> dict[str, Index]:
    """Return the indices of documents, by their names without the prefix, as the server has them."""
    found = {}
    for model in documents:
        name = index_name("", collection_name(model))
        patterns = tuple(f"{prefix}{one}" for one in template_of(model))
        found[name] = Index(index_name(prefix, name), mapping_of([model]), settings_of(model), patterns)
    return found


async def present(client: Any, prefix: str) -> dict[str, Index]:
    """Return the indices that a server has, by their names without the prefix; those behind an alias by its name."""
    answer = await client.indices.get(index=f"{prefix}*", expand_wildcards="open", flat_settings=False)
    templates = await client.options(ignore_status=404).indices.get_index_template(name=f"{prefix}*")
    patterns = {one["name"]: one["index_template"].get("index_patterns", []) for one in templates["index_templates"]}
    found: dict[str, Index] = {}
    for name, one in answer.items():
        if name.startswith("."):
            continue
        settings = {key: value for key, value in one["settings"].get("index", {}).items() if key not in ADDED}
        for called in [alias for alias in one.get("aliases", {}) if alias.startswith(prefix)] or [name]:
            there = patterns.get(called, [])
            there = [there] if isinstance(there, str) else there
            found[called.removeprefix(prefix)] = Index(called, one.get("mappings", {}), settings, tuple(there))
    return found


async def create_index(client: Any, index: Index) -> None:
    """Make an index, and the template of those like it; one that is there stays as it is."""
    if index.patterns:
        await put_template(client, index)
    if not await client.indices.exists(index=index.name):
        try:
            await client.indices.create(
                index=index.name, mappings=dict(index.mappings), settings=dict(index.settings), wait_for_active_shards=1
            )
        except BadRequestError as error:
            if error.error != "resource_already_exists_exception":  # Somebody else made it just now.
                raise


async def put_template(client: Any, index: Index) -> None:
    """Make or change the template, which has the index's name."""
    await client.indices.put_index_template(
        name=index.name, index_patterns=list(index.patterns), template=index.template, priority=200
    )


async def drop_index(client: Any, name: str) -> None:
    """Delete an index, those behind an alias of that name, and the template."""
    found = await client.indices.get(index=name, ignore_unavailable=True, features="aliases")
    for one in found:
        await client.indices.delete(index=one, ignore_unavailable=True)
    await client.options(ignore_status=404).indices.delete_index_template(name=name)


class Indices:
    """What a migration is given: names are those that documents declare, without the service's prefix.

    ``client`` is the official one, for everything else.
    """

    def __init__(self, client: Any, prefix: str) -> None:
        self.client, self._prefix = client, prefix

    def name(self, index: str) -> str:
        """Return the name on the server."""
        return index_name(self._prefix, index)

    async def create_index(self, name: str, *, mappings: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Make an index; one that is there stays as it is."""
        await create_index(self.client, Index(self.name(name), mappings, settings))

    async def drop_index(self, name: str) -> None:
        """Delete an index with its documents, and its template."""
        await drop_index(self.client, self.name(name))

    async def add_fields(self, name: str, properties: Mapping[str, Any]) -> None:
        """Add fields to a mapping."""
        await self.client.indices.put_mapping(index=self.name(name), properties=dict(properties))

    async def set_settings(self, name: str, settings: Mapping[str, Any]) -> None:
        """Change settings that an open index lets change."""
        await self.client.indices.put_settings(index=self.name(name), settings=dict(settings))

    async def put_template(
        self, name: str, patterns: Sequence[str], *, mappings: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        """Make or change the template of the indices whose names fit."""
        names = tuple(self.name(one) for one in patterns)
        await put_template(self.client, Index(self.name(name), mappings, settings, names))

    async def drop_template(self, name: str) -> None:
        """Delete a template."""
        await self.client.options(ignore_status=404).indices.delete_index_template(name=self.name(name))

    async def rebuild(self, name: str, *, mappings: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Copy an index into a new one, and let its name lead there, in one step; the old one is deleted.

        Documents keep their versions, and those fields that the new mapping has. What is written to the old index
        meanwhile is lost: pause the sync rules, and stop other writers.
        """
        index = self.name(name)
        made = f"{index}-{datetime.datetime.now(datetime.UTC):%Y%m%d%H%M%S%f}"
        await self.client.indices.create(index=made, mappings=dict(mappings), settings=dict(settings))
        await self.client.indices.refresh(index=index)
        source = {"index": index, "_source": sorted(mappings.get("properties", {}))}
        try:
            await self.client.options(request_timeout=3600).reindex(
                source=source, dest={"index": made, "version_type": "external"}, refresh=True, timeout="1h"
            )
        except BaseException:
            await self.client.indices.delete(index=made)
            raise
        there = await self.client.indices.get(index=index, features="aliases")
        actions: list[dict[str, Any]] = [{"remove_index": {"index": one}} for one in there]
        await self.client.indices.update_aliases(actions=[*actions, {"add": {"index": made, "alias": index}}])


# -- comparing


def differences(wanted: Index, there: Index) -> list[str]:
    """Return what is different in an index, each as a sentence's part."""
    found = []
    mine, its = shown(wanted.mappings.get("properties", {})), shown(there.mappings.get("properties", {}))
    for name in sorted({*mine, *its}):
        if name not in its:
            found.append(f"field {name} is not there")
        elif name not in mine:
            found.append(f"no model declares field {name}")
        elif mine[name] != its[name]:
            found.append(f"field {name} is {its[name]}, and {mine[name]} in the models")
    for name, value in sorted(flat(wanted.settings).items()):
        if flat(there.settings).get(name) != value:
            found.append(f"setting {name} is {flat(there.settings).get(name)}, and {value} in the models")
    if set(wanted.patterns) != set(there.patterns):
        found.append(f"its template is for {list(there.patterns)}, and for {list(wanted.patterns)} in the models")
    return found


def flat(settings: Mapping[str, Any], within: str = "") -> dict[str, str]:
    """Return settings by their whole names, as text, as a server has them."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        path = f"{within}{name}".removeprefix("index.")
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}.")
        else:
            found[path] = str(value).lower() if isinstance(value, bool) else str(value)
    return found
