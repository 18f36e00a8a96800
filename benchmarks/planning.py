"""What is spent on a statement whose shape is known before a service hears of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import Engine, event, func, select

from benchmarks.shop import SEGMENTS, Buyer, Purchase, Shop

TIMES = 1000


@dataclass(frozen=True, slots=True)
class Planning:
    """Medians in milliseconds: SQLAlchemy's lookup of the compiled text and ours of its plan, each by itself, and what
    passes from ``execute()`` until the plan is there, and until the first service gets a statement.
    """

    compiled: float
    planned: float
    until_planned: float | None
    until_sent: float | None

    @property
    def together(self) -> float:
        """The two lookups."""
        return self.compiled + self.planned


def looked_up(number: int) -> Any:
    """Return the statement of the lookup benchmark."""
    joined = select(Buyer.email, Purchase.id, Purchase.total).join(Purchase, Purchase.user_id == Buyer.id)
    return joined.where(Buyer.segment == number % SEGMENTS)


def grouped(number: int) -> Any:
    """Return a statement with a parameter, an aggregate and two groups."""
    columns = select(Buyer.country, Purchase.status, func.count(), func.sum(Purchase.total))
    joined = columns.join(Purchase, Purchase.user_id == Buyer.id).where(Buyer.segment == number % SEGMENTS)
    return joined.group_by(Buyer.country, Purchase.status)


async def planning(shop: Shop, statement: Any, rounds: int) -> Planning:
    """Execute a statement until all is known, then take the time of each part, with other values each time."""
    async with shop.fed.session() as session:
        inside = session.sync_session
        runner = inside.queries
        assert runner is not None
        with _plans(runner) as asked:
            await session.execute(statement(0))
        planned_before = runner.planned
        engine = runner.engine(is_async=not inside.uses_threads)
        compiled = []
        for number in range(TIMES):
            one = statement(number)
            started = time.perf_counter()
            one._compile_w_cache(
                engine.dialect, compiled_cache=engine._compiled_cache, column_keys=[], for_executemany=False
            )
            compiled.append(time.perf_counter() - started)
        planned = []
        for _ in range(TIMES):
            started = time.perf_counter()
            runner.plan(*asked[-1].arguments, **asked[-1].named)
            planned.append(time.perf_counter() - started)
        until_planned, until_sent = [], []
        with _plans(runner) as plans, _sent(engine) as sent:
            for number in range(rounds):
                one = statement(number)
                plans.clear()
                sent.clear()
                started = time.perf_counter()
                await session.execute(one)
                until_planned += [plan.returned - started for plan in plans[:1]]
                until_sent += [moment - started for moment in sent[:1]]
        assert runner.planned == planned_before, "the shape was planned again"
    return Planning(
        compiled=median(compiled) * 1000,
        planned=median(planned) * 1000,
        until_planned=median(until_planned) * 1000 if until_planned else None,
        until_sent=median(until_sent) * 1000 if until_sent else None,
    )


@dataclass(frozen=True, slots=True)
class _Planned:
    """What the runner was asked to plan, and the moment at which it had the plan."""

    arguments: tuple[Any, ...]
    named: dict[str, Any]
    returned: float


@contextmanager
def _plans(runner: Any) -> Iterator[list[_Planned]]:
    """Note what the runner plans."""
    noted: list[_Planned] = []
    original = runner.plan

    def plan(*arguments: Any, **named: Any) -> Any:
        made = original(*arguments, **named)
        noted.append(_Planned(arguments, named, time.perf_counter()))
        return made

    runner.plan = plan
    try:
        yield noted
    finally:
        del runner.plan


@contextmanager
def _sent(federated: Engine) -> Iterator[list[float]]:
    """Note when statements are sent to services."""
    moments: list[float] = []

    def note(connection: Any, *rest: Any) -> None:
        if connection.engine is not federated:
            moments.append(time.perf_counter())

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield moments
    finally:
        event.remove(Engine, "before_cursor_execute", note)
