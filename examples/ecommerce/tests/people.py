"""A customer, and two banks."""

from __future__ import annotations

from decimal import Decimal

from examples.ecommerce import shop
from examples.ecommerce.errors import CardDeclinedError
from examples.ecommerce.models import User
from fedorm import AsyncFederatedSession


async def customer(session: AsyncFederatedSession, email: str = "ada@example.com") -> User:
    return await shop.register_user(session, email=email, name="Ada", country="DE")


async def pays(order_id: int, amount: Decimal) -> str:
    return f"ref-{order_id}-{amount}"


async def declines(order_id: int, amount: Decimal) -> str:
    raise CardDeclinedError("no money")
