"""Placing orders, and asking about them."""

from __future__ import annotations

from fedorm import AsyncFederatedSession
from sqlalchemy import func, select

from $package.models import Order, Product, User


async def place(session: AsyncFederatedSession, *, email: str, sku: str, quantity: int) -> Order:
    """Add an order, and the user if there is none with this address. Raises ``ValueError`` for an unknown product."""
    if await session.get(Product, sku) is None:
        raise ValueError(f"there is no product {sku}")
    user = await session.scalar(select(User).where(User.email == email))
    if user is None:
        user = User(email=email)
        session.add(user)
        await session.flush()  # The database gives it its id.
    order = Order(user_id=user.id, sku=sku, quantity=quantity)
    session.add(order)
    return order


async def spent(session: AsyncFederatedSession) -> list[tuple[str, float]]:
    """Return what each user has spent: one statement over all three databases."""
    statement = (
        select(User.email, func.sum(Order.quantity * Product.price))
        .join(Order, Order.user_id == User.id)
        .join(Product, Product.sku == Order.sku)
        .group_by(User.email)
        .order_by(User.email)
    )
    return [(email, float(total)) for email, total in await session.execute(statement)]
