"""Each rewrite as text before and after: a statement, then the steps and the finish that are planned for it.

The files in ``rules/`` hold the pairs, one file a rule. A block is a title, what the planner is to believe, the
statement, ``=>``, and the plan: a line for each step with its service, wave by wave, and the finish. After a change
that is meant, ``python -m tests.query.test_rules`` writes the plans anew, to be read before they are committed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Date, DateTime, Index, Integer, Numeric, String, Table
from sqlglot import exp

from fedorm import FederatedBase
from fedorm.query.plan import Plan, Scan, Step
from fedorm.query.planner import make_plan
from fedorm.query.tables import Tables

FOLDER = Path(__file__).parent / "rules"
SERVICES = ("people", "trade", "bank")
"""The bank is like MariaDB: its texts compare in another way, so it is not sent whole queries."""


def _table(service: str, name: str, *columns: tuple[str, Any]) -> None:
    made = [Column(column, kind, primary_key=column == "id") for column, kind in columns]
    Table(name, FederatedBase.metadata_of(service), *made)


_table("people", "users", ("id", Integer), ("email", String), ("country", String), ("born", Date), ("active", Boolean))
_table("people", "profiles", ("id", Integer), ("user_id", Integer), ("bio", String))
_table("trade", "orders", ("id", Integer), ("user_id", Integer), ("total", Numeric(12, 2)), ("made", DateTime))
_table("trade", "items", ("id", Integer), ("order_id", Integer), ("sku", String), ("amount", Integer))
_table("bank", "payments", ("id", Integer), ("order_id", Integer), ("amount", Numeric(12, 2)), ("note", String))
_table("bank", "refunds", ("id", Integer), ("payment_id", Integer), ("amount", Numeric(12, 2)), ("note", String))
for service, table, column in (("trade", "orders", "user_id"), ("bank", "payments", "order_id")):
    Index(f"{table}_{column}", FederatedBase.metadata_of(service).tables[table].c[column])


@dataclass
class Believed:
    """What the planner is told of the services, by no server."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    """Rows by table, 1,000 of those that are not named."""
    values: Mapping[str, float] = field(default_factory=dict)
    """How many different values columns have."""
    outside_services: frozenset[str] = frozenset()
    tables: Tables = field(default_factory=lambda: Tables(SERVICES, {}))

    def holds_documents(self, service: str) -> bool:
        return False

    def takes_queries(self, service: str) -> bool:
        return service != "bank"

    def orders_texts(self, service: str) -> bool:
        return service != "bank"

    def rows(self, service: str, table: str) -> float:
        return self.numbers.get(table, 1000.0)

    def distinct(self, service: str, table: str) -> Mapping[str, float]:
        named = ((full.partition("."), number) for full, number in self.values.items())
        return {column: number for (of, _, column), number in named if of == table}

    def outside(self, service: str, table: Table, columns: Sequence[str]) -> bool:
        return service in self.outside_services

    def filters(self, service: str) -> bool:
        return service != "bank"

    def joins(self, service: str) -> bool:
        return True

    def streams(self, service: str, others: Collection[str]) -> bool:
        return service != "bank"

    def adds_exactly(self, service: str) -> bool:
        return True

    def keys_per_statement(self, service: str) -> int:
        return 10_000


@dataclass(frozen=True)
class Block:
    """One pair of a file."""

    file: str
    title: str
    settings: Mapping[str, str]
    before: str
    after: str


def blocks() -> Iterator[Block]:
    for path in sorted(FOLDER.glob("*.sql")):
        for text in re.split(r"\n{2,}(?=-- )", path.read_text().strip()):
            before, _, after = text.partition("\n=>")
            lines = before.splitlines()
            comments = [line[3:] for line in lines if line.startswith("-- ")]
            settings = dict(comment.split(": ", 1) for comment in comments[1:])
            sql = "\n".join(line for line in lines if not line.startswith("-- "))
            yield Block(path.stem, comments[0], settings, sql, after.strip())


def planned(block: Block) -> Plan:
    outside = frozenset(block.settings.get("outside", "").split(", "))
    believed = Believed(_numbers(block, "rows"), _numbers(block, "different values"), outside)
    strategy: Any = block.settings.get("strategy", "auto")
    return make_plan(block.before, believed, block.settings.get("lists", "").split(", "), strategy)


def _numbers(block: Block, setting: str) -> dict[str, float]:
    pairs = (one.rsplit(" ", 1) for one in block.settings.get(setting, "").split(", ") if one)
    return {name: float(number.replace("_", "")) for name, number in pairs}


def written(plan: Plan) -> str:
    """Return a plan as it stands in the files."""
    lines = []
    for number, wave in enumerate(plan.waves):
        lines += [f"{number + 1}. {step.name} at {step.service}: {_step(step)}" for step in wave]
    lines.append(f"finish: {plan.finish}" if plan.finish else "no finish")
    if plan.head is not None:
        lines += [f"or, {plan.head.part} of {plan.head.step} at a time:", written(plan.head.plan)]
    return "\n".join(lines)


def _step(step: Step) -> str:
    if isinstance(step, Scan):
        query = exp.select(*step.columns).from_(step.table.name).where(*step.predicates)
        for order in step.order:
            term = exp.Ordered(this=exp.column(order.column), desc=order.descending, nulls_first=order.nulls_first)
            query = query.order_by(term)
        if step.limit is not None:
            query = query.limit(step.limit.copy())
        sql = query.sql("postgres") + (" (read by DuckDB)" if step.outside else "")
    else:
        sql = step.query.sql("postgres")
    return sql + "".join(f" [{key.column} in {key.source}.{key.source_column}]" for key in step.key_filters)


@pytest.mark.parametrize("block", list(blocks()), ids=lambda block: f"{block.file}: {block.title}")
def test_before_and_after(block: Block) -> None:
    """The plan is the one that the file has."""
    assert written(planned(block)) == block.after


def rewrite() -> None:
    for path in sorted(FOLDER.glob("*.sql")):
        made = []
        for block in (one for one in blocks() if one.file == path.stem):
            head = [block.title, *(": ".join(setting) for setting in block.settings.items())]
            lines = [*(f"-- {line}" for line in head), block.before, "=>", written(planned(block))]
            made.append("\n".join(lines))
        path.write_text("\n\n".join(made) + "\n")


if __name__ == "__main__":
    rewrite()
