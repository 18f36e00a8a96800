"""How indices differ from what models declare, and the lines of a migration that bring the one to the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pprint import pformat
from textwrap import indent
from typing import Any

from fedorm.stores.elasticsearch_mapping import shown
from fedorm.stores.elasticsearch_schema import Index, differences, flat

_WIDTH = 90
_FIXED = ("number_of_shards", "analysis.", "codec", "routing", "sort.", "mode", "similarity")
"""Beginnings of settings that an index has from its making on."""


def changes(before: Mapping[str, Index], after: Mapping[str, Index]) -> list[str]:
    """Return the lines of a migration that brings indices from one state to the other."""
    lines = []
    for name in sorted(set(after) - set(before)):
        lines += [_call("create_index", name, **_said(after[name])), *_template(name, None, after[name])]
    for name in sorted(set(after) & set(before)):
        lines += _changed(name, before[name], after[name])
    lines += [_call("drop_index", name) for name in sorted(set(before) - set(after))]
    return lines


def _said(index: Index) -> dict[str, Any]:
    return {"mappings": dict(index.mappings), "settings": dict(index.settings)}


def _call(method: str, *given: Any, **named: Any) -> str:
    """Write a call, on several lines if one would be too long."""
    parts = [*map(repr, given), *(f"{name}={value!r}" for name, value in named.items())]
    if sum(map(len, parts)) < _WIDTH:
        return f"await es.{method}({', '.join(parts)})"
    parts = [pformat(value, width=_WIDTH, sort_dicts=False) for value in given]
    parts += [f"{name}={pformat(value, width=_WIDTH - len(name), sort_dicts=False)}" for name, value in named.items()]
    inner = "".join(f"{indent(part, '    ')},\n" for part in parts)
    return f"await es.{method}(\n{inner})"


def _changed(name: str, before: Index, after: Index) -> Iterator[str]:
    mine, its = after.mappings.get("properties", {}), before.mappings.get("properties", {})
    added = _added(its, mine)
    settings = {key: value for key, value in flat(after.settings).items() if flat(before.settings).get(key) != value}
    if added is None or any(key.startswith(_FIXED) for key in settings):
        yield _call("rebuild", name, **_said(after))
    else:
        if added:
            yield _call("add_fields", name, added)
        if settings:
            yield _call("set_settings", name, settings)
    yield from _template(name, before, after)


def _template(name: str, before: Index | None, after: Index) -> Iterator[str]:
    patterns = _without_prefix(after, name)
    if after.patterns and (before is None or differences(after, before)):
        yield _call("put_template", name, patterns, **_said(after))
    elif before is not None and before.patterns and not after.patterns:
        yield _call("drop_template", name)


def _without_prefix(index: Index, name: str) -> list[str]:
    prefix = index.name.removesuffix(name)
    return [one.removeprefix(prefix) for one in index.patterns]


def _added(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the fields that are new, within others too; None when another field is changed or gone."""
    if set(before) - set(after):
        return None
    found: dict[str, Any] = {}
    for name, one in after.items():
        if name not in before:
            found[name] = one
        elif shown({name: one}) != shown({name: before[name]}):
            outer = {key: value for key, value in one.items() if key != "properties"}
            old = {key: value for key, value in before[name].items() if key != "properties"}
            inner = _added(before[name].get("properties", {}), one.get("properties", {}))
            if inner is None or shown({name: outer}) != shown({name: old}):
                return None
            found[name] = {**outer, "properties": inner}
    return found
