"""What DuckDB's profile says of the tables that it has read by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlglot import exp

from fedorm.query.measured import Measured


def steps_of(profile: Mapping[str, Any], views: Mapping[str, exp.Query]) -> dict[str, Measured]:
    """Return rows, bytes and milliseconds of the reads, by the names of their views.

    The profile names tables without their databases: of several that are called the same the columns tell. Of a view
    that is read more than once, all reads together.
    """
    tables = {name: query.find(exp.Table) for name, query in views.items()}
    columns = {name: set(query.named_selects) for name, query in views.items()}
    found: dict[str, Measured] = {}
    for node in _nodes(profile):
        info = node.get("extra_info")
        if not isinstance(info, Mapping) or "SCAN" not in str(node.get("operator_name")):
            continue
        read = _listed(info.get("Projections"))
        fitting = [
            name
            for name, table in tables.items()
            if table is not None and table.name == info.get("Table") and read <= columns[name]
        ]
        if not fitting:
            continue
        name = next((one for one in fitting if one not in found), fitting[0])
        before = found.get(name, Measured(0, 0, 0.0))
        found[name] = Measured(
            before.rows + int(node.get("operator_cardinality", 0)),
            before.bytes + int(node.get("result_set_size", 0)),
            before.milliseconds + float(node.get("operator_timing", 0.0)) * 1000,
        )
    return found


def _listed(projections: Any) -> set[str]:
    return {projections} if isinstance(projections, str) else set(projections or ())


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("children", ()):
        yield from _nodes(child)
