"""What DuckDB's profile says of the tables that it has read by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlglot import exp

from fedorm.query.measured import Measured


def steps_of(profile: Mapping[str, Any], views: Mapping[str, exp.Query]) -> dict[str, Measured]:
    """Return rows, bytes and milliseconds of the reads, by the names of their views.

    Of a view that is read more than once, all reads together.
    """
    names: dict[str, list[str]] = {}
    for name, query in views.items():
        table = query.find(exp.Table)
        if table is not None:
            names.setdefault(f"{table.catalog}.{table.db}.{table.name}", []).append(name)
    found: dict[str, Measured] = {}
    for node in _nodes(profile):
        info = node.get("extra_info") or {}
        read = str(info.get("Table", "")) if isinstance(info, Mapping) else ""
        for name in names.get(read, ())[:1] if "SCAN" in str(node.get("operator_name", "")) else ():
            before = found.get(name, Measured(0, 0, 0.0))
            found[name] = Measured(
                before.rows + int(node.get("operator_cardinality", 0)),
                before.bytes + int(node.get("result_set_size", 0)),
                before.milliseconds + float(node.get("operator_timing", 0.0)) * 1000,
            )
            if len(names[read]) > 1:
                names[read].pop(0)
    return found


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("children", ()):
        yield from _nodes(child)
