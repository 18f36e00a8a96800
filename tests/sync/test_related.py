"""Rows that are built from several models, kept by the logs of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import String, select, text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import Federated, FederatedBase, Federation, federated_relationship
from fedorm.sync import CDC, SyncRule, SyncRuleError

SERVICES = ("baskets", "basket_owners", "basket_views")


class BasketOwner(FederatedBase):
    __service__, __tablename__ = "basket_owners", "owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class BasketItem(FederatedBase):
    __service__, __tablename__ = "baskets", "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    basket_id: Mapped[int]
    price: Mapped[int]


class Basket(FederatedBase):
    __service__, __tablename__ = "baskets", "baskets"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int]
    gift_of: Mapped[int | None]
    owner: Federated[BasketOwner] = federated_relationship(local_key="owner_id")
    items: Federated[list[BasketItem]] = federated_relationship(remote_key="basket_id")
    giver: Federated[Basket] = federated_relationship(local_key="gift_of")


class BasketView(FederatedBase):
    __service__, __tablename__ = "basket_views", "views"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str | None] = mapped_column(String(40))
    total: Mapped[int]
    from_owner: Mapped[int | None]


def summed(row: Any) -> Any:
    row["total"] = sum(item.price for item in row.source["items"])
    return row


RULE = SyncRule(
    source=Basket,
    to=BasketView,
    strategy=CDC(),
    load=[Basket.owner, Basket.items, Basket.giver],
    fields={"owner.name": "owner", "giver.owner_id": "from_owner"},
    transform=summed,
    name="baskets",
)


@pytest.fixture
async def shop(fresh_database: Callable[[str], str]) -> AsyncIterator[Federation]:
    async with Federation({name: fresh_database("postgresql") for name in SERVICES}) as fed:
        await fed.create_all()
        yield fed


async def identify(fed: Federation, how: str) -> None:
    async with fed.session() as session:
        statement = text(f"ALTER TABLE items REPLICA IDENTITY {how}")
        await session.execute(statement, bind_arguments={"service": "baskets"})
        await session.commit()


async def until(fed: Federation, wanted: dict[int, tuple[Any, ...]]) -> None:
    async with asyncio.timeout(60):
        while True:
            async with fed.session() as session:
                rows = await session.scalars(select(BasketView))
                found = {one.id: (one.owner, one.total, one.from_owner) for one in rows}
            if found == wanted:
                return
            await asyncio.sleep(0.02)


async def test_a_row_follows_what_belongs_to_it(shop: Federation) -> None:
    """What it points to and what points to it, in its own service and in others, made, changed, moved and deleted."""
    await identify(shop, "FULL")
    async with shop.session() as session:
        session.add_all([BasketOwner(id=1, name="Ada"), BasketOwner(id=2, name="Bob")])
        session.add_all([Basket(id=1, owner_id=1), Basket(id=2, owner_id=2, gift_of=1)])
        session.add_all([BasketItem(id=1, basket_id=1, price=10), BasketItem(id=2, basket_id=1, price=5)])
        await session.commit()
    shop.sync.add(RULE)
    async with shop.sync.running():
        await until(shop, {1: ("Ada", 15, None), 2: ("Bob", 0, 1)})
        async with shop.session() as session:
            (await session.get_one(BasketOwner, 1)).name = "Eve"
            await session.commit()
            await until(shop, {1: ("Eve", 15, None), 2: ("Bob", 0, 1)})
            (await session.get_one(BasketItem, 1)).price = 20
            await session.commit()
            await until(shop, {1: ("Eve", 25, None), 2: ("Bob", 0, 1)})
            await session.delete(await session.get_one(BasketItem, 2))
            await session.commit()
            await until(shop, {1: ("Eve", 20, None), 2: ("Bob", 0, 1)})
            (await session.get_one(BasketItem, 1)).basket_id = 2
            await session.commit()
            await until(shop, {1: ("Eve", 0, None), 2: ("Bob", 20, 1)})
            (await session.get_one(Basket, 1)).owner_id = 2
            await session.commit()
            await until(shop, {1: ("Bob", 0, None), 2: ("Bob", 20, 2)})
            await session.delete(await session.get_one(BasketOwner, 2))
            await session.delete(await session.get_one(Basket, 1))
            await session.commit()
        await until(shop, {2: (None, 20, None)})
    assert (await shop.sync.verify("baskets")).equal


async def test_a_log_that_does_not_tell_whose_a_row_was(shop: Federation) -> None:
    """The rule is refused when the federation opens, and fails where its tables were made since; never is it wrong."""
    shop.sync.add(RULE)
    with pytest.raises(SyncRuleError, match=r"'baskets': BasketItem: .* run  ALTER TABLE items REPLICA IDENTITY FULL"):
        await shop.sync.check()
    async with shop.sync.running():
        async with asyncio.timeout(60):
            while shop.sync.status()[0].state != "failed":
                await asyncio.sleep(0.02)
        assert "REPLICA IDENTITY FULL" in (shop.sync.status()[0].last_error or "")
    await identify(shop, "FULL")
    await shop.sync.check()
