"""A thousand of a million rows, found by keys from another database: by fedorm, by hand, and by DuckDB's scanners."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import select

from benchmarks.measure import Pair, pair
from benchmarks.shop import SEGMENTS, USERS, Buyer, Purchase, Shop


class Lookup:
    """1,000 of a million orders, those of 100 of 100,000 users; each run asks for other users.

    They are one segment's, scattered among all, or with ``ranged`` those with one hundred successive keys, which DuckDB
    looks up by their least and greatest key and so, too, need not read all orders for.
    """

    def __init__(self, shop: Shop, *, ranged: bool) -> None:
        self._shop, self._ranged = shop, ranged
        self._numbers = itertools.cycle(range(SEGMENTS))
        self._condition = "id BETWEEN $1 AND $2" if ranged else "segment = $1"

    async def federated(self) -> None:
        """In a session of its own, as a request would."""
        async with self._shop.fed.session() as session:
            self._check((await session.execute(self._statement())).all())

    async def by_hand(self) -> None:
        """With asyncpg alone: the keys travel as an array, the join is a dictionary."""
        users = await self._shop.users.fetch(f"SELECT id, email FROM users WHERE {self._condition}", *self._values())
        emails = {row[0]: row[1] for row in users}
        orders = await self._shop.orders.fetch(
            "SELECT id, user_id, total FROM orders WHERE user_id = ANY($1)", list(emails)
        )
        self._check([(emails[user], number, total) for number, user, total in orders])

    async def scanned(self) -> None:
        """With DuckDB, which has both databases attached."""
        found = self._shop.scanner.execute(
            "SELECT u.email, o.id, o.total FROM accounts.users u JOIN sales.orders o ON o.user_id = u.id "
            f"WHERE u.{self._condition}",
            self._values(),
        )
        self._check(found.fetchall())

    async def against_hand(self, rounds: int) -> Pair:
        """Both in turn; the session is opened anew each time."""
        return await pair(self.federated, self.by_hand, rounds=rounds, warmups=10)

    async def against_hand_in_a_session(self, rounds: int) -> Pair:
        """Both in turn; the session stays open."""
        async with self._shop.fed.session() as session:

            async def federated() -> None:
                self._check((await session.execute(self._statement())).all())

            return await pair(federated, self.by_hand, rounds=rounds, warmups=10)

    async def against_scanner(self, rounds: int) -> Pair:
        """Both in turn; the session is opened anew each time."""
        return await pair(self.federated, self.scanned, rounds=rounds, warmups=10)

    async def against_itself(self, rounds: int) -> Pair:
        """The same by hand twice: what this machine's noise is."""
        return await pair(self.by_hand, self.by_hand, rounds=rounds, warmups=10)

    def _statement(self) -> Any:
        joined = select(Buyer.email, Purchase.id, Purchase.total).join(Purchase, Purchase.user_id == Buyer.id)
        values = self._values()
        return joined.where(Buyer.id.between(values[0], values[1]) if self._ranged else Buyer.segment == values[0])

    def _values(self) -> list[int]:
        """Return the next segment, or the next keys' ends."""
        number = next(self._numbers)
        each = USERS // SEGMENTS
        return [number * each + 1, (number + 1) * each] if self._ranged else [number]

    def _check(self, rows: Any) -> None:
        assert len(rows) == 10 * USERS // SEGMENTS
        assert rows[0][0].endswith("@example.com")
