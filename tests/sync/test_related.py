"""Rows that are built from several models, kept by the logs of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import ForeignKey, Numeric, String, select, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fedorm import Federated, FederatedBase, FederatedDocument, Federation, federated_relationship
from fedorm.exc import FeedLostError
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


async def test_all_that_belongs_to_rows_is_gone_at_once(shop: Federation) -> None:
    """TRUNCATE names no rows: those that had some follow nevertheless, and so does what comes after it."""
    await identify(shop, "FULL")
    async with shop.session() as session:
        session.add_all([BasketOwner(id=1, name="Ada"), Basket(id=1, owner_id=1), Basket(id=2, owner_id=1)])
        session.add_all([BasketItem(id=1, basket_id=1, price=10), BasketItem(id=2, basket_id=2, price=5)])
        await session.commit()
    shop.sync.add(RULE)
    with pytest.raises(FeedLostError, match=r"no position in the logs of basket_owners, baskets: .* sync backfill"):
        await shop.sync.feed(shop.sync.rule("baskets")).backlog("0/1573178")
    async with shop.sync.running():
        await until(shop, {1: ("Ada", 10, None), 2: ("Ada", 5, None)})
        async with shop.session() as session:
            await session.execute(text("TRUNCATE items"), bind_arguments={"service": "baskets"})
            session.add(BasketItem(id=3, basket_id=2, price=1))
            await session.commit()
            await until(shop, {1: ("Ada", 0, None), 2: ("Ada", 1, None)})
            (await session.get_one(BasketOwner, 1)).name = "Eve"
            await session.commit()
        await until(shop, {1: ("Eve", 0, None), 2: ("Eve", 1, None)})


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


# -- documents of several models


class BasketPatron(FederatedDocument):
    __service__ = "basket_patrons"
    id: int  # type: ignore[assignment] # Beanie's own way to give ids of another type
    name: str

    class Settings:
        name = "patrons"


class PatronBasket(FederatedBase):
    __service__, __tablename__ = "baskets", "patron_baskets"
    id: Mapped[int] = mapped_column(primary_key=True)
    patron_id: Mapped[int]
    patron: Federated[BasketPatron] = federated_relationship(local_key="patron_id")
    lines: Mapped[list[PatronLine]] = relationship(order_by="PatronLine.id")


class PatronLine(FederatedBase):
    __service__, __tablename__ = "baskets", "patron_lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    basket_id: Mapped[int] = mapped_column(ForeignKey("patron_baskets.id"))
    sku: Mapped[str] = mapped_column(String(20))
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))


class PageLine(BaseModel):
    sku: str
    price: Decimal


class BasketPage(FederatedDocument):
    __service__ = "basket_pages"
    id: int  # type: ignore[assignment] # As above.
    patron: str | None = None
    lines: list[PageLine] = []
    total: Decimal = Decimal(0)

    class Settings:
        name = "pages"


def as_page(row: Any) -> Any:
    row["lines"] = [PageLine(sku=line.sku, price=line.price) for line in row.source["lines"]]
    row["total"] = sum(line.price for line in row["lines"])
    return row


PAGES = SyncRule(
    source=PatronBasket,
    to=BasketPage,
    strategy=CDC(),
    load=[PatronBasket.patron, PatronBasket.lines],
    fields={"patron.name": "patron"},
    transform=as_page,
    name="pages",
)


async def pages(fed: Federation) -> dict[int, tuple[Any, ...]]:
    async with fed.session() as session:
        found = await session.find(BasketPage).to_list()
    return {one.id: (one.patron, [(line.sku, line.price) for line in one.lines], one.total) for one in found}


async def test_a_document_follows_all_that_it_is_built_of(fresh_database: Callable[[str], str]) -> None:
    """Rows, objects of another database, and lists, made, changed, moved and deleted; a repair builds it, too."""
    kinds = {"baskets": "postgresql", "basket_patrons": "mongodb", "basket_pages": "mongodb"}
    async with Federation({name: fresh_database(kind) for name, kind in kinds.items()}) as fed:
        await fed.create_all()
        fed.sync.add(PAGES)
        wanted: dict[int, tuple[Any, ...]] = {}

        async def become(**changed: Any) -> None:
            wanted.update({int(name[1:]): value for name, value in changed.items()})
            async with asyncio.timeout(60):
                while (found := await pages(fed)) != {key: value for key, value in wanted.items() if value}:
                    await asyncio.sleep(0.02)
                assert found

        async with fed.session() as session:
            statement = text("ALTER TABLE patron_lines REPLICA IDENTITY FULL")
            await session.execute(statement, bind_arguments={"service": "baskets"})
            session.add_all([BasketPatron(id=1, name="Ada"), BasketPatron(id=2, name="Bob")])
            session.add_all([PatronBasket(id=1, patron_id=1), PatronBasket(id=2, patron_id=2)])
            await session.flush()
            tea, figs = Decimal("2.50"), Decimal("0.99")
            session.add_all([PatronLine(id=1, basket_id=1, sku="tea", price=tea)])
            session.add_all([PatronLine(id=2, basket_id=1, sku="figs", price=figs)])
            await session.commit()
        async with fed.sync.running(), fed.session() as session:
            await become(_1=("Ada", [("tea", tea), ("figs", figs)], Decimal("3.49")), _2=("Bob", [], Decimal(0)))
            (await session.get(BasketPatron, 1)).name = "Eve"
            await session.commit()
            await become(_1=("Eve", [("tea", tea), ("figs", figs)], Decimal("3.49")))
            (await session.get_one(PatronLine, 2)).price = tea
            await session.commit()
            await become(_1=("Eve", [("tea", tea), ("figs", tea)], Decimal("5.00")))
            await session.delete(await session.get_one(PatronLine, 1))
            (await session.get_one(PatronLine, 2)).basket_id = 2
            await session.commit()
            await become(_1=("Eve", [], Decimal(0)), _2=("Bob", [("figs", tea)], tea))
            await session.delete(await session.get(BasketPatron, 2))
            await session.delete(await session.get_one(PatronBasket, 1))
            await session.commit()
            await become(_1=None, _2=(None, [("figs", tea)], tea))
        assert (await fed.sync.verify("pages")).equal
        async with fed.session() as session:
            page = await session.get(BasketPage, 2)
            page.lines, page.total = [], Decimal(7)
            session.add(BasketPage(id=9))
            await session.commit()
        found = await fed.sync.verify("pages", repair=True)
        assert (found.different, found.superfluous, found.equal) == (1, 1, True)
        await become()
