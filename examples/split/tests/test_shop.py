"""What the shop promises, whichever way it keeps its data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy.exc import IntegrityError, NoResultFound

from examples.split.tests.conftest import Shop

ADA = ("ada@example.com", "Ada", "GB", "1 High Street", "London")
BOB = ("bob@example.com", "Bob", "GB", "2 Low Street", "Leeds")
EVE = ("eve@example.com", "Eve", "DE", "3 Weg", "Berlin")


async def register(shop: Shop, who: tuple[str, ...]) -> int:
    async with shop.sessions() as session:
        return int((await shop.selling.register(session, *who)).id)


async def add(shop: Shop, category: str, name: str, price: str, stock: int) -> int:
    async with shop.sessions() as session:
        return int((await shop.selling.add_product(session, category, name, price, stock)).id)


async def checkout(shop: Shop, user: int, basket: dict[int, int]) -> int:
    async with shop.sessions() as session:
        return int((await shop.selling.checkout(session, user, basket)).id)


async def test_an_order_and_its_page(shop: Shop) -> None:
    """What was sold is on the page, at the price of then, and is no longer in stock."""
    ada = await register(shop, ADA)
    tea, cup = await add(shop, "kitchen", "tea", "2.50", 10), await add(shop, "kitchen", "cup", "7.00", 5)
    order = await checkout(shop, ada, {tea: 4, cup: 1})
    async with shop.sessions() as session:
        page = await shop.selling.order_page(session, order)
        assert (page.user.email, page.address.city, page.status.name) == ("ada@example.com", "London", "OPEN")
        assert [(item.product.name, item.product.category.name, item.quantity, item.price) for item in page.items] == [
            ("tea", "kitchen", 4, Decimal("2.50")),
            ("cup", "kitchen", 1, Decimal("7.00")),
        ]
        assert [item.product.stock for item in page.items] == [6, 4]
        assert datetime.now(UTC) - page.ordered_at < timedelta(minutes=5)


async def test_all_of_a_basket_or_nothing(shop: Shop) -> None:
    """Where one product is sold out no stock is taken, and there is no order."""
    ada = await register(shop, ADA)
    tea, cup = await add(shop, "kitchen", "tea", "2.50", 10), await add(shop, "kitchen", "cup", "7.00", 1)
    with pytest.raises(shop.selling.SoldOutError, match="cup"):
        await checkout(shop, ada, {tea: 4, cup: 2})
    async with shop.sessions() as session:
        assert (await shop.selling.product_page(session, tea)).stock == 10
        assert (await shop.selling.customer_page(session, "ada@example.com")).orders == []


async def test_a_customers_page(shop: Shop) -> None:
    """It has addresses, and orders in their order; an address of mail is one customer's."""
    ada, tea = await register(shop, ADA), await add(shop, "kitchen", "tea", "2.50", 10)
    orders = [await checkout(shop, ada, {tea: quantity}) for quantity in (1, 2)]
    with pytest.raises(IntegrityError):
        await register(shop, ADA)
    async with shop.sessions() as session:
        page = await shop.selling.customer_page(session, "ada@example.com")
        assert [address.street for address in page.addresses] == ["1 High Street"]
        assert [(order.id, [item.quantity for item in order.items]) for order in page.orders] == [
            (orders[0], [1]),
            (orders[1], [2]),
        ]


async def test_reviews(shop: Shop) -> None:
    """They are of customers who have bought the product, and are on its page, with who wrote them and when."""
    ada, bob, tea = await register(shop, ADA), await register(shop, BOB), await add(shop, "kitchen", "tea", "2.50", 10)
    await checkout(shop, ada, {tea: 1})
    async with shop.sessions() as session:
        await shop.selling.review(session, ada, tea, 5, "Drinkable.")
    async with shop.sessions() as session:
        with pytest.raises(shop.selling.NotBoughtError):
            await shop.selling.review(session, bob, tea, 1, "Never had any.")
    async with shop.sessions() as session:
        page = await shop.selling.product_page(session, tea)
        assert [(one.user.name, one.stars, one.text) for one in page.reviews] == [("Ada", 5, "Drinkable.")]
        assert page.reviews[0].written_at.tzinfo is not None
        assert page.category.name == "kitchen"


async def test_forgetting_a_customer(shop: Shop) -> None:
    """Addresses and reviews go, too; orders stay, and are nobody's."""
    ada, bob, tea = await register(shop, ADA), await register(shop, BOB), await add(shop, "kitchen", "tea", "2.50", 10)
    order, other = await checkout(shop, ada, {tea: 1}), await checkout(shop, bob, {tea: 2})
    for user in (ada, bob):
        async with shop.sessions() as session:
            await shop.selling.review(session, user, tea, 3, "Wet.")
    async with shop.sessions() as session:
        await shop.selling.forget(session, ada)
    async with shop.sessions() as session:
        with pytest.raises(NoResultFound):
            await shop.selling.customer_page(session, "ada@example.com")
        page = await shop.selling.order_page(session, order)
        assert (page.user_id, page.user, page.address_id, page.address) == (None, None, None, None)
    async with shop.sessions() as session:
        assert (await shop.selling.order_page(session, other)).user.name == "Bob"
    async with shop.sessions() as session:
        assert [one.user.name for one in (await shop.selling.product_page(session, tea)).reviews] == ["Bob"]
        assert await shop.selling.ordered_in(session, "London") == []


async def test_reports(shop: Shop) -> None:
    """They are made by one select each, over customers, orders and products."""
    ada, bob, eve = [await register(shop, who) for who in (ADA, BOB, EVE)]
    tea, cup = await add(shop, "kitchen", "tea", "2.50", 99), await add(shop, "kitchen", "cup", "7.00", 99)
    lamp = await add(shop, "office", "lamp", "30.00", 99)
    first = await checkout(shop, ada, {tea: 3, lamp: 1})
    await checkout(shop, bob, {tea: 2, cup: 1})
    last = await checkout(shop, ada, {cup: 4})
    await checkout(shop, eve, {cup: 50})
    await add(shop, "office", "desk", "300.00", 1)
    async with shop.sessions() as session:
        assert [tuple(row) for row in await shop.selling.best_sellers(session, "GB")] == [
            ("kitchen", "cup", 5, Decimal("35.00"), 2),
            ("kitchen", "tea", 5, Decimal("12.50"), 2),
            ("office", "lamp", 1, Decimal("30.00"), 1),
        ]
        assert [tuple(row)[1:3] for row in await shop.selling.best_sellers(session, "DE", limit=1)] == [("cup", 50)]
        assert await shop.selling.never_sold(session) == ["desk"]
        assert [order.id for order in await shop.selling.ordered_in(session, "London")] == [first, last]
