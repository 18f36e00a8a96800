"""Orders, over all three services; whatever a test commits is rolled back after it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from fedorm import Federation, federated_load
from sqlalchemy import select

from $package.models import Order, Product, User
from $package.orders import place, spent


async def test_an_order(federation: Federation) -> None:
    """It is loaded with its user and its product, which are in other databases."""
    async with federation.session() as session:
        session.add(Product(sku="tea", name="Green tea", price=Decimal("3.50")))
        await session.flush()
        await place(session, email="ada@example.com", sku="tea", quantity=2)
        await session.commit()
    async with federation.session() as session:
        order = await session.scalar(select(Order).options(federated_load(Order.user), federated_load(Order.product)))
        assert order is not None
        assert (order.user.email, order.product.name, order.quantity) == ("ada@example.com", "Green tea", 2)


async def test_what_is_spent(federation: Federation) -> None:
    """A user who orders twice is one user; one statement adds up over all services."""
    async with federation.session() as session:
        session.add(Product(sku="tea", name="Green tea", price=Decimal("3.50")))
        session.add(Product(sku="cup", name="A cup", price=Decimal("12.00")))
        await session.flush()
        await place(session, email="ada@example.com", sku="tea", quantity=2)
        await place(session, email="ada@example.com", sku="cup", quantity=1)
        await place(session, email="bob@example.com", sku="tea", quantity=1)
        await session.commit()
        assert await spent(session) == [("ada@example.com", 19.0), ("bob@example.com", 3.5)]


async def test_an_unknown_product(federation: Federation) -> None:
    """It is refused, and nothing is left of the other tests."""
    async with federation.session() as session:
        with pytest.raises(ValueError, match="there is no product tea"):
            await place(session, email="ada@example.com", sku="tea", quantity=1)
        assert (await session.scalars(select(User))).all() == []
