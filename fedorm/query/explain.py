"""The plan of a statement as a tree, to read or to draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from fedorm.query.document_scans import describe_documents
from fedorm.query.drawing import numbers_of, to_mermaid, to_svg
from fedorm.query.plan import Piece, Plan, Scan, Step
from fedorm.stores.base import DocumentStore
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.query.measured import Measured
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
    name: str = ""
    """What the finish calls the step's rows."""
    service: str | None = None
    """Who is asked; None for the finish."""
    kind: str = "DuckDB"
    """The kind of database; of the finish, where it is made."""
    strategy: str = ""
    """One of "scan", "outside" (a scan over connections of the finish's own), "query" (a whole one, that the service
    answers), "lookup" (narrowed by keys) and "finish"."""
    keys_from: tuple[str, ...] = ()
    """The names of the steps whose keys narrow this one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the step and those below it as plain values."""
        one = self.measured
        measured = {"rows": one.rows, "bytes": one.bytes, "milliseconds": one.milliseconds} if one else None
        return {
            "title": self.title,
            "name": self.name,
            "service": self.service,
            "kind": self.kind,
            "strategy": self.strategy,
            "why": self.why,
            "sent": self.sent,
            "estimated_rows": self.estimated,
            "measured": measured,
            "keys_from": list(self.keys_from),
            "children": [child.to_dict() for child in self.children],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The plan of a statement; ``print()`` it."""

    root: Node

    def __str__(self) -> str:
        return "\n".join(_lines(self.root, ""))

    def to_dict(self) -> dict[str, Any]:
        """Return the tree as plain values, for ``json.dumps()``: a mapping a step, with its ``children``."""
        return self.root.to_dict()

    def to_mermaid(self) -> str:
        """Return a flowchart in Mermaid's words."""
        return to_mermaid(self.root)

    def to_svg(self) -> str:
        """Return an SVG image that needs nothing beside itself, readable on light and on dark."""
        return to_svg(self.root)


def explain_plan(
    plan: Plan,
    stores: Mapping[str, Store],
    measured: Mapping[str, Measured],
    finished: Measured | None,
    *,
    in_python: bool = False,
) -> Explanation:
    """Return a plan as a tree: the finish above the steps that it reads."""
    nodes: dict[str, Node] = {}
    for step in plan.steps:
        nodes[step.name] = _node(step, plan, stores[step.service], measured.get(step.name))
    if plan.finish is None:
        (only,) = nodes.values()
        return Explanation(only)
    why = "joins and finishes what no single service can"
    if plan.small is not None:
        why += "; in Python, as there are few rows" if in_python else "; in Python, if there are few rows"
    kind = "Python" if in_python else "DuckDB"
    children = tuple(nodes.values())
    return Explanation(
        Node(f"finish in {kind}", plan.finish, None, why, finished, children, kind=kind, strategy="finish")
    )


def _node(step: Step, plan: Plan, store: Store, measured: Measured | None) -> Node:
    verb = "read" if isinstance(step, Scan) else "ask"
    reasons = [step.why] if step.why else []
    by_name = {one.name: one for one in plan.steps}
    for key in step.key_filters:
        source = by_name[key.source]
        reasons.append(
            f"lookup: only keys of {key.source}.{key.source_column} ({source.service}), "
            f"expected {plan.rows.get(key.source, 0):,.0f}"
        )
    return Node(
        title=f"{step.name}: {verb} {step.service} ({store.kind})",
        sent=sent(step, store),
        estimated=plan.rows.get(step.name),
        why="; ".join(reasons),
        measured=measured,
        name=step.name,
        service=step.service,
        kind=store.kind,
        strategy=_strategy(step),
        keys_from=tuple(dict.fromkeys(key.source for key in step.key_filters)),
    )


def _strategy(step: Step) -> str:
    if step.key_filters:
        return "lookup"
    if isinstance(step, Piece):
        return "query"
    return "outside" if step.outside else "scan"


def sent(step: Step, store: Store) -> str:
    """Return what a step sends to its service, in the service's words."""
    dialect = store.sql_dialect if isinstance(store, SQLStore) else "postgres"
    if isinstance(step, Piece):
        return step.query.sql(dialect=dialect)
    if isinstance(store, DocumentStore):
        return describe_documents(store, step)
    columns = [exp.column(name, quoted=True) for name in step.columns]
    query = exp.select(*columns).from_(exp.table_(str(step.table.name), quoted=True)).where(*step.predicates)
    for term in step.order:
        column = exp.column(term.column, quoted=True)
        query = query.order_by(exp.Ordered(this=column, desc=term.descending or None, nulls_first=term.nulls_first))
    if step.limit is not None:
        query = query.limit(step.limit.copy())
    return query.sql(dialect=dialect)


def _lines(node: Node, indent: str) -> list[str]:
    numbers = numbers_of(node)
    lines = [f"{indent}{node.title}" + (f"  [{numbers}]" if numbers else "")]
    lines.append(f"{indent}  {node.sent}")
    if node.why:
        lines.append(f"{indent}  because: {node.why}")
    for child in node.children:
        lines += _lines(child, indent + "    ")
    return lines
