"""Records and the rows that they have to do with."""

from __future__ import annotations

import datetime
from decimal import Decimal

from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import Federated, FederatedBase, FederatedRecord, federated_relationship

DAY = 86_400


class BasketLine(BaseModel):
    sku: str
    number: int = 1


class BasketOwner(FederatedBase):
    __service__ = "basket_owners"
    __tablename__ = "basket_owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    basket_id: Mapped[str | None]
    basket: Federated[Basket] = federated_relationship(local_key="basket_id")
    baskets: Federated[list[Basket]] = federated_relationship(remote_key="owner_id", order_by="-total")
    note: Federated[BasketNote] = federated_relationship(local_key="id")


class Basket(FederatedRecord):
    __service__ = "baskets"
    id: str
    owner_id: int | None = None
    total: Decimal = Decimal(0)
    lines: list[BasketLine] = []
    seen: datetime.datetime | None = None
    owner: Federated[BasketOwner] = federated_relationship(local_key="owner_id")

    class Settings:
        name = "basket"
        ttl = 7 * DAY


class BasketNote(FederatedRecord):
    __service__ = "baskets"
    id: int
    text: str
    tags: set[str] = set()

    class Settings:
        name = "basket_note"
        format = "json"
        ttl = datetime.timedelta(days=7)
        ttl_renews = True


class BasketVisit(FederatedRecord):
    """No time to live, and fields without a value."""

    __service__ = "baskets"
    id: int
    page: str | None = None
    number: int = 0

    class Settings:
        name = "basket_visit"


class BasketGuest(FederatedRecord):
    """Wants events, which Redis does not take."""

    __service__ = "basket_guests"
    __outbox__ = ["insert"]
    id: int


class BasketPage(FederatedBase):
    __service__ = "basket_owners"
    __tablename__ = "basket_pages"
    id: Mapped[int] = mapped_column(primary_key=True)
    page: Mapped[str | None]
    number: Mapped[int]
