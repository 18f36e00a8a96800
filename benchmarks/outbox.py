"""Ten rows read, changed and committed: of a model whose changes make events, and of one whose changes make none."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from sqlalchemy import Numeric, String, insert, select, text
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks.measure import Pair, pair
from benchmarks.places import Kind, Places
from fedorm import FederatedBase, Federation

ROWS = 10
REPEAT = 20
"""How many commits a run makes."""


class _Invoice:
    __service__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer: Mapped[str] = mapped_column(String(50))
    status: Mapped[str] = mapped_column(String(10))
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    note: Mapped[str | None] = mapped_column(String(100))


class QuietInvoice(_Invoice, FederatedBase):
    __tablename__ = "quiet_invoices"


class ToldInvoice(_Invoice, FederatedBase):
    __tablename__ = "told_invoices"
    __outbox__ = ["insert", "update", "delete"]


class Bench:
    """A federation of one database, and totals that no row has yet."""

    def __init__(self, fed: Federation) -> None:
        self.fed = fed
        self._totals = itertools.count(1)
        self.committing: dict[type[Any], list[float]] = {QuietInvoice: [], ToldInvoice: []}
        """Of each run, the milliseconds of its commits alone."""

    def changes(self, model: type[Any]) -> Callable[[], Any]:
        """Return what reads, changes and commits ten rows, some times."""

        async def run() -> None:
            committing = 0.0
            for total in itertools.islice(self._totals, REPEAT):
                async with self.fed.session() as session:
                    for row in await session.scalars(select(model).order_by(model.id)):
                        row.total = Decimal(total) / 100
                        row.status = "open" if total % 2 else "paid"
                    started = time.perf_counter()
                    await session.commit()
                    committing += time.perf_counter() - started
            self.committing[model].append(committing * 1000)

        return run

    async def empty(self) -> None:
        """Remove the events: a relay would have."""
        async with self.fed.session() as session:
            await session.execute(text("DELETE FROM fedorm_outbox"), bind_arguments={"service": "invoices"})
            await session.commit()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Bench]:
    """Open the service, with ten rows of each model."""
    async with Federation({"invoices": url}) as fed:
        await fed.drop_all()
        await fed.create_all()
        async with fed.session() as session:
            for model in (QuietInvoice, ToldInvoice):
                rows = [
                    {"id": number, "customer": f"customer {number}", "status": "open", "total": 0, "note": None}
                    for number in range(ROWS)
                ]
                await session.execute(insert(model), rows)
            await session.commit()
        bench = Bench(fed)
        yield bench
        await bench.empty()
        await fed.drop_all()


async def measured(places: Places, rounds: int, kind: Kind = "postgresql") -> tuple[Pair, Pair]:
    """Return the times with and without events: of all, and of the commits alone."""
    async with opened(await places.filled(kind, "bench_invoices", _nothing)) as bench:
        told, quiet = bench.changes(ToldInvoice), bench.changes(QuietInvoice)
        whole = await pair(told, quiet, rounds=rounds)
        alone = Pair(*(bench.committing[model][-rounds:] for model in (ToldInvoice, QuietInvoice)))
    return whole, alone


async def _nothing(url: str) -> None:
    """Fill a database with nothing: the tables are made for each run."""
