"""Carts, which are in Redis: filled, looked at with what is in them, and ordered in one unit of work with the rest.

The shop goes without them where its federation has no service ``carts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Row, select

from examples.ecommerce import shop
from examples.ecommerce.errors import EmptyBasketError
from examples.ecommerce.models import Cart, Order, Product, User
from examples.ecommerce.models.base import now
from fedorm import AsyncFederatedSession


@dataclass(frozen=True)
class CartPage:
    """A cart with the products that are in it, at today's prices."""

    lines: list[tuple[Product, int]]
    total: Decimal


async def put(session: AsyncFederatedSession, user_id: int, sku: str, quantity: int = 1) -> Cart:
    """Put so many more of a product into a customer's cart. Raises ``UnknownProductError``, ``UnknownUserError``."""
    await shop.known_user(session, user_id)
    await shop.products_in(session, {sku: 1})
    cart: Cart | None = await session.get(Cart, user_id)
    if cart is None:
        cart = Cart(id=user_id, changed_at=now())
        session.add(cart)
    cart.put(sku, quantity)
    await session.commit()
    return cart


async def page(session: AsyncFederatedSession, user_id: int) -> CartPage:
    """Return what is in a customer's cart."""
    cart: Cart | None = await session.get(Cart, user_id)
    if cart is None or not cart.quantities:
        return CartPage([], Decimal(0))
    products = await shop.products_in(session, cart.quantities)
    lines = [(products[sku], quantity) for sku, quantity in sorted(cart.quantities.items())]
    return CartPage(lines, sum((product.price * quantity for product, quantity in lines), Decimal(0)))


async def order(session: AsyncFederatedSession, user_id: int) -> Order:
    """Order what is in the cart, and empty it, in one commit. Raises what ``place_order`` does: then it stays full."""
    cart: Cart | None = await session.get(Cart, user_id)
    if cart is None:
        raise EmptyBasketError("there is nothing in the cart")
    quantities = dict(cart.quantities)
    await session.delete(cart)
    return await shop.place_order(session, user_id, quantities)


async def left_behind(session: AsyncFederatedSession, country: str) -> Sequence[Row[tuple[str, dict[str, int]]]]:
    """Return who in a country has a cart, and what is in it: one select over PostgreSQL and Redis."""
    statement = (
        select(User.email, Cart.c.quantities)
        .join(Cart, Cart.c.id == User.id)
        .where(User.country == country)
        .order_by(User.email)
    )
    return (await session.execute(statement)).all()
