"""What happens to orders, on its way to ClickHouse: written with the order, and handed on when ClickHouse is there."""

from __future__ import annotations

import datetime
from typing import Literal
from uuid import UUID

from examples.ecommerce.models import Order, UserEvent
from fedorm import AsyncFederatedSession
from fedorm.outbox import Event
from fedorm.relay import handler


def emit(session: AsyncFederatedSession, kind: Literal["order", "pay"], order: Order) -> None:
    """Let ``to_analytics`` know of something that happens to an order, if the session's transaction is committed."""
    data = {"user_id": order.user_id, "order_id": order.id}
    session.emit(Event(f"shop.{kind}", key=order.id, data=data), service="orders")


@handler("shop.*", name="shop.to_analytics")
async def to_analytics(event: Event, session: AsyncFederatedSession) -> None:
    """Append an event to those of its user; one that comes twice, after a crash, has the same id both times."""
    at = event.at or datetime.datetime.now(datetime.UTC)
    kind = event.type.rpartition(".")[2]
    session.add(UserEvent(kind=kind, at=at.replace(microsecond=0), id=UUID(event.id).hex, **event.data))
