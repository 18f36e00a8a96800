"""How the cost of a row changes as the rows grow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median

from sqlalchemy import func, select

from benchmarks.measure import timed
from benchmarks.places import Places
from benchmarks.shop import Buyer, Purchase, Shop, opened

SIZES = (10_000, 100_000, 1_000_000)
"""Orders."""


@dataclass(frozen=True, slots=True)
class Growth:
    """The milliseconds of each round, by the number of orders."""

    times: dict[int, list[float]]

    def ratio(self, larger: int, smaller: int) -> float:
        """Return what a row costs among the larger number of rows, in what it costs among the smaller one."""
        pairs = zip(self.times[larger], self.times[smaller], strict=True)
        return median(many / few for many, few in pairs) / (larger / smaller)

    def shown(self) -> str:
        """Return medians and ratios as a row's text."""
        milliseconds = " | ".join(f"{median(self.times[size]):.0f}" for size in SIZES)
        return f"{milliseconds} | **{self.ratio(SIZES[1], SIZES[0]):.2f}** | **{self.ratio(SIZES[2], SIZES[1]):.2f}**"


async def grouped(shop: Shop, orders: int) -> None:
    """Group all orders by their users' country."""
    columns = select(Buyer.country, func.count(), func.sum(Purchase.total))
    statement = columns.join(Purchase, Purchase.user_id == Buyer.id).group_by(Buyer.country)
    async with shop.fed.session() as session:
        assert sum(row[1] for row in await session.execute(statement)) == orders


async def joined(shop: Shop, orders: int) -> None:
    """Fetch all orders, each with its user's address."""
    columns = select(Buyer.email, Purchase.id, Purchase.total)
    async with shop.fed.session() as session:
        assert len((await session.execute(columns.join(Purchase, Purchase.user_id == Buyer.id))).all()) == orders


async def growth(places: Places, job: Callable[[Shop, int], Awaitable[None]], rounds: int) -> Growth:
    """Run a job over each number of orders in turn."""
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    async with AsyncExitStack() as stack:
        shops = {size: await stack.enter_async_context(opened(places, size // 10)) for size in SIZES}
        for number in range(rounds + 1):
            for size, shop in shops.items():
                took = await timed(lambda shop=shop, size=size: job(shop, size))  # type: ignore[misc]
                if number:
                    times[size].append(took)
    return Growth(times)
