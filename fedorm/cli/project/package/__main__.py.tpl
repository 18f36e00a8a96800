"""Place an order, and print all of them:  python -m $package."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from fedorm import Federation, federated_load
from sqlalchemy import select

from $package.models import Order, Product
from $package.orders import place, spent


async def main() -> None:
    """Work with the services of ``fedorm.toml``."""
    async with Federation.from_file() as federation:
        async with federation.session() as session:
            await session.merge(Product(sku="tea", name="Green tea", price=Decimal("3.50")))
            await session.commit()
            await place(session, email="ada@example.com", sku="tea", quantity=2)
            await session.commit()

        async with federation.session() as session:
            orders = await session.scalars(
                select(Order).options(federated_load(Order.user), federated_load(Order.product)).order_by(Order.id)
            )
            for order in orders:
                print(f"{order.user.email}: {order.quantity} x {order.product.name}")
            for email, total in await spent(session):
                print(f"{email} has spent {total:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
