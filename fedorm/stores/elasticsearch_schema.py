"""Indices and index templates: what documents declare, and what a server has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    """Return the indices of documents, by their names without the prefix."""
    found = {}
    for model in documents:
        name = collection_name(model)
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
        await client.indices.create(
            index=index.name, mappings=dict(index.mappings), settings=dict(index.settings), wait_for_active_shards=1
        )


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
