"""A million orders with 100,000 users, grouped: by fedorm, by DuckDB's scanners, and by data frames."""

from __future__ import annotations

from typing import Any

import connectorx
import polars
from sqlalchemy import func, select, text

from benchmarks.measure import Pair, pair
from benchmarks.shop import COUNTRIES, USERS, Buyer, Purchase, Shop

GROUPED = """
select u.country, count(*), sum(o.total)
from sales.orders o join accounts.users u on o.user_id = u.id
group by u.country
"""


class Group:
    """All orders with all users, counted and added up by country."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._plain = {name: url.replace("+asyncpg", "") for name, url in shop.urls.items()}

    async def selected(self) -> None:
        """By an ORM select()."""
        columns = select(Buyer.country, func.count(), func.sum(Purchase.total))
        statement = columns.join(Purchase, Purchase.user_id == Buyer.id).group_by(Buyer.country)
        async with self._shop.fed.session() as session:
            self._check((await session.execute(statement)).all())

    async def written(self) -> None:
        """By text()."""
        async with self._shop.fed.session() as session:
            self._check((await session.execute(text(GROUPED))).all())

    async def scanned(self) -> None:
        """By DuckDB, which has both databases attached."""
        self._check(self._shop.scanner.execute(GROUPED).fetchall())

    async def framed(self) -> None:
        """By ConnectorX, which reads both tables, and Polars, which joins them."""
        users: Any = connectorx.read_sql(
            self._plain["accounts"], "SELECT id, country FROM users", return_type="polars", protocol="binary"
        )
        orders: Any = connectorx.read_sql(
            self._plain["sales"], "SELECT user_id, total FROM orders", return_type="polars", protocol="binary"
        )
        joined = orders.lazy().join(users.lazy(), left_on="user_id", right_on="id").group_by("country")
        self._check(joined.agg(polars.len(), polars.sum("total")).collect().rows())

    async def select_against_scanner(self, rounds: int) -> Pair:
        """The select() and DuckDB in turn."""
        return await pair(self.selected, self.scanned, rounds=rounds)

    async def text_against_scanner(self, rounds: int) -> Pair:
        """The text() and DuckDB in turn."""
        return await pair(self.written, self.scanned, rounds=rounds)

    async def select_against_frames(self, rounds: int) -> Pair:
        """The select() and ConnectorX with Polars in turn."""
        return await pair(self.selected, self.framed, rounds=rounds)

    def _check(self, rows: Any) -> None:
        assert sorted(row[0] for row in rows) == sorted(COUNTRIES)
        assert sum(row[1] for row in rows) == 10 * USERS
