"""The plan of a statement as a tree, to read or to draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlglot import exp

from fedorm.query.plan import Piece, Plan, Scan, Step
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.query.executor import Measured
    from fedorm.stores.base import Store


@dataclass(frozen=True, slots=True)
class Node:
    """One step: where it runs, what is sent there, what was expected, why, and how it went."""

    title: str
    sent: str
    estimated: float | None = None
    why: str = ""
    measured: Measured | None = None
    children: tuple[Node, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Explanation:
    """The plan of a statement; ``print()`` it."""

    root: Node

    def __str__(self) -> str:
        return "\n".join(_lines(self.root, ""))

    def to_mermaid(self) -> str:
        """Return a flowchart in Mermaid's words."""
        lines = ["flowchart BT"]
        _draw(self.root, "n", lines)
        return "\n".join(lines)


def explain_plan(
    plan: Plan, stores: Mapping[str, Store], measured: Mapping[str, Measured], finished: Measured | None
) -> Explanation:
    """Return a plan as a tree: the finish above the steps that it reads, those above the ones that narrow them."""
    nodes: dict[str, Node] = {}
    for step in plan.steps:
        nodes[step.name] = _node(step, plan, stores[step.service], measured.get(step.name))
    if plan.finish is None:
        (only,) = nodes.values()
        return Explanation(only)
    why = "joins and finishes what no single service can"
    children = tuple(nodes.values())
    return Explanation(Node("finish in DuckDB", plan.finish, None, why, finished, children))


def _node(step: Step, plan: Plan, store: Store, measured: Measured | None) -> Node:
    verb = "read" if isinstance(step, Scan) else "ask"
    reasons = [step.why] if isinstance(step, Piece) and step.why else []
    by_name = {one.name: one for one in plan.steps}
    for key in step.key_filters:
        source = by_name[key.source]
        reasons.append(
            f"lookup: only keys of {key.source}.{key.source_column} ({source.service}), "
            f"expected {plan.rows.get(key.source, 0):,.0f}"
        )
    title = f"{step.name}: {verb} {step.service} ({store.kind})"
    return Node(title, _sent(step, store), plan.rows.get(step.name), "; ".join(reasons), measured)


def _sent(step: Step, store: Store) -> str:
    dialect = store.sql_dialect if isinstance(store, SQLStore) else "postgres"
    if isinstance(step, Piece):
        return step.query.sql(dialect=dialect)
    columns = [exp.column(name, quoted=True) for name in step.columns]
    query = exp.select(*columns).from_(exp.table_(str(step.table.name), quoted=True)).where(*step.predicates)
    if isinstance(store, SQLStore):
        return query.sql(dialect=dialect)
    fields = ", ".join(step.columns)
    return f"{step.table.name}.find(..., {{{fields}}})"


def _lines(node: Node, indent: str) -> list[str]:
    facts = []
    if node.estimated is not None:
        facts.append(f"~{node.estimated:,.0f} rows")
    if node.measured is not None:
        one = node.measured
        facts.append(f"{one.rows:,} rows, {one.bytes:,} bytes, {one.milliseconds:.1f} ms")
    lines = [f"{indent}{node.title}" + (f"  [{'; '.join(facts)}]" if facts else "")]
    lines.append(f"{indent}  {node.sent}")
    if node.why:
        lines.append(f"{indent}  because: {node.why}")
    for child in node.children:
        lines += _lines(child, indent + "    ")
    return lines


def _draw(node: Node, name: str, lines: list[str]) -> None:
    label = "<br/>".join([node.title, node.sent, *([node.why] if node.why else [])]).replace('"', "#quot;")
    lines.append(f'    {name}["{label}"]')
    for number, child in enumerate(node.children):
        _draw(child, f"{name}_{number}", lines)
        lines.append(f"    {name}_{number} --> {name}")
