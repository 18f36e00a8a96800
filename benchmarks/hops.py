"""Three hops over three more databases: how many statements, and how the time grows with the parents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from pymongo import monitoring
from sqlalchemy import Engine, event, insert, select

from benchmarks.measure import timed
from benchmarks.models import Item, Order, Product, Supplier
from fedorm import Federation, federated_load
from fedorm.testing.servers import MariaDBServer, MongoDBServer, PostgreSQLServer

ORDERS, ITEMS_PER_ORDER, PRODUCTS, SUPPLIERS = 100_000, 2, 5_000, 200


@dataclass(frozen=True, slots=True)
class Growth:
    """How long some parents took, in milliseconds, and how many statements each service got."""

    parents: int
    milliseconds: float
    statements: dict[str, int]


class _Finds(monitoring.CommandListener):
    def __init__(self) -> None:
        self.number = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.number += event.command_name == "find"

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@asynccontextmanager
async def opened(
    postgresql: PostgreSQLServer, mariadb: MariaDBServer, mongodb: MongoDBServer
) -> AsyncIterator[tuple[Federation, _Finds]]:
    """Fill orders and items (two PostgreSQL databases), products (MariaDB) and suppliers (MongoDB)."""
    for server, name in ((postgresql, "hop_orders"), (postgresql, "hop_items"), (mariadb, "hop_products")):
        server.create_database(name)
    finds = _Finds()
    services = {
        "orders": postgresql.url("hop_orders"),
        "items": postgresql.url("hop_items"),
        "products": mariadb.url("hop_products"),
        "suppliers": {"url": mongodb.url("hop_suppliers"), "options": {"event_listeners": [finds]}},
    }
    async with Federation(services) as fed:
        await fed.create_all()
        async with fed.session() as session:
            for start in range(0, ORDERS, 20_000):
                numbers = range(start, start + 20_000)
                await session.execute(
                    insert(Order), [{"id": n, "user_id": n, "status": "paid", "total": 1} for n in numbers]
                )
                items: list[dict[str, Any]] = [
                    {"id": n * 10 + i, "order_id": n, "product_id": (n * 7 + i) % PRODUCTS + 1}
                    for n in numbers
                    for i in range(ITEMS_PER_ORDER)
                ]
                await session.execute(insert(Item), items)
            products = [{"id": n, "name": f"product {n}", "supplier_id": n % SUPPLIERS} for n in range(1, PRODUCTS + 1)]
            await session.execute(insert(Product), products)
            session.add_all(Supplier(id=n, name=f"supplier {n}") for n in range(SUPPLIERS))
            await session.commit()
        yield fed, finds


@contextmanager
def counted(finds: _Finds) -> Iterator[dict[str, int]]:
    """Count the statements of each service inside the block."""
    sent: dict[str, int] = {}

    def note(connection: Any, *rest: Any) -> None:
        service = str(connection.engine.url.database).removeprefix("hop_")
        sent[service] = sent.get(service, 0) + 1

    before = finds.number
    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        sent["suppliers"] = finds.number - before


async def growth(fed: Federation, finds: _Finds, parents: int, rounds: int) -> Growth:
    """Load order, items, products and suppliers of ``parents`` orders."""

    async def load() -> None:
        path = federated_load(Order.items, Item.product, Product.supplier)
        async with fed.session() as session:
            orders = (await session.scalars(select(Order).where(Order.id < parents).options(path))).all()
            assert len(orders) == parents
            assert orders[-1].items[-1].product.supplier.name.startswith("supplier")

    await load()
    with counted(finds) as statements:
        await load()
    return Growth(parents, median([await timed(load) for _ in range(rounds)]), statements)
