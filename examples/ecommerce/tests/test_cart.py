"""Carts, in Redis beside the five other databases."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from redis import Redis
from sqlalchemy import select

from examples.ecommerce import cart
from examples.ecommerce.errors import EmptyBasketError, OutOfStockError, UnknownProductError
from examples.ecommerce.models import Cart, Order, User
from examples.ecommerce.shop import register_user
from fedorm import AsyncFederatedSession, federated_load


@pytest.fixture
def urls(fresh_database: Callable[[str], str], empty_redis_url: str) -> dict[str, str]:
    kinds = {"users": "postgresql", "orders": "postgresql", "payments": "mysql", "inventory": "mongodb"}
    found = {service: fresh_database(kind) for service, kind in kinds.items()}
    return found | {"analytics": fresh_database("clickhouse"), "carts": empty_redis_url}


async def test_a_cart_is_filled_and_ordered(session: AsyncFederatedSession, goods: None, empty_redis_url: str) -> None:
    """It is there until the order is, and both are one commit; what cannot be ordered stays in it."""
    ann = (await register_user(session, email="ann@example.com", name="Ann", country="DE")).id
    bob = (await register_user(session, email="bob@example.com", name="Bob", country="DE")).id
    await cart.put(session, ann, "KIT-1", 3)
    await cart.put(session, ann, "OFF-1", 2)
    await cart.put(session, ann, "KIT-1", -1)
    with pytest.raises(UnknownProductError):
        await cart.put(session, ann, "nothing")
    with pytest.raises(EmptyBasketError):
        await cart.order(session, bob)
    shown = await cart.page(session, ann)
    assert [(product.sku, quantity) for product, quantity in shown.lines] == [("KIT-1", 2), ("OFF-1", 2)]
    assert shown.total == Decimal("60.98")
    with Redis.from_url(empty_redis_url, decode_responses=True) as kept:
        assert kept.hget(f"cart:{ann}", "quantities") == '{"OFF-1":2,"KIT-1":2}'
        assert 13 * 86_400 < kept.ttl(f"cart:{ann}") <= 14 * 86_400
        await cart.put(session, bob, "KIT-1", 100)
        rows = await cart.left_behind(session, "DE")
        assert [tuple(row) for row in rows] == [
            ("ann@example.com", {"KIT-1": 2, "OFF-1": 2}), ("bob@example.com", {"KIT-1": 100}),
        ]  # fmt: skip
        with pytest.raises(OutOfStockError):
            await cart.order(session, bob)
        await session.rollback()
        order = await cart.order(session, ann)
        assert (order.total, [item.sku for item in order.items]) == (Decimal("60.98"), ["OFF-1", "KIT-1"])
        assert kept.keys("*") == [f"cart:{bob}"]
    statement = select(User).order_by(User.email).options(federated_load(User.cart, Cart.user))
    users = (await session.scalars(statement)).all()
    assert [one.cart and one.cart.user.name for one in users] == [None, "Bob"]
    assert (await session.scalars(select(Order.user_id))).all() == [ann]
