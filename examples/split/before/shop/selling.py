"""What the shop does: each function is a piece of work in a session, and commits what it has written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload

from .models import Address, Category, Order, OrderItem, Product, Review, User


class SoldOutError(Exception):
    """There is not enough of a product."""


class NotBoughtError(Exception):
    """Only who has bought a product may review it."""


async def register(session: AsyncSession, email: str, name: str, country: str, street: str, city: str) -> User:
    """Make somebody a customer."""
    user = User(email=email, name=name, country=country, addresses=[Address(street=street, city=city)])
    session.add(user)
    await session.commit()
    return user


async def add_product(session: AsyncSession, category: str, name: str, price: str, stock: int) -> Product:
    """Put a product on sale, in a category that is made where there is none."""
    found = await session.scalar(select(Category).where(Category.name == category))
    product = Product(category=found or Category(name=category), name=name, price=Decimal(price), stock=stock)
    session.add(product)
    await session.commit()
    return product


async def checkout(session: AsyncSession, user_id: int, basket: Mapping[int, int]) -> Order:
    """Sell products, by id and quantity, to the customer's first address: all of them, or nothing."""
    user = await session.get_one(User, user_id, options=[selectinload(User.addresses)])
    locked = select(Product).where(Product.id.in_(basket)).order_by(Product.id).with_for_update()
    items = []
    for product in await session.scalars(locked):
        if product.stock < basket[product.id]:
            raise SoldOutError(product.name)
        product.stock -= basket[product.id]
        items.append(OrderItem(product=product, quantity=basket[product.id], price=product.price))
    order = Order(user=user, address=user.addresses[0], items=items)
    session.add(order)
    await session.commit()
    return order


async def review(session: AsyncSession, user_id: int, product_id: int, stars: int, text: str) -> Review:
    """Let a customer say something about what was bought."""
    bought = select(OrderItem.order_id).join(OrderItem.order)
    if await session.scalar(bought.where(Order.user_id == user_id, OrderItem.product_id == product_id)) is None:
        raise NotBoughtError
    said = Review(user_id=user_id, product_id=product_id, stars=stars, text=text)
    session.add(said)
    await session.commit()
    return said


async def forget(session: AsyncSession, user_id: int) -> None:
    """Remove a customer, with addresses and reviews; orders stay, and are nobody's."""
    await session.execute(delete(User).where(User.id == user_id))
    await session.commit()


async def order_page(session: AsyncSession, order_id: int) -> Order:
    """Return an order with all that its page shows."""
    return await session.get_one(
        Order,
        order_id,
        options=[
            joinedload(Order.user),
            joinedload(Order.address),
            selectinload(Order.items).joinedload(OrderItem.product).joinedload(Product.category),
        ],
    )


async def product_page(session: AsyncSession, product_id: int) -> Product:
    """Return a product with its category, its reviews, and who has written these."""
    loaded = [joinedload(Product.category), selectinload(Product.reviews).joinedload(Review.user)]
    return await session.get_one(Product, product_id, options=loaded)


async def customer_page(session: AsyncSession, email: str) -> User:
    """Return a customer with addresses and orders."""
    found = select(User).where(User.email == email)
    loaded = [selectinload(User.addresses), selectinload(User.orders).selectinload(Order.items)]
    return (await session.scalars(found.options(*loaded))).one()


async def ordered_in(session: AsyncSession, city: str) -> Sequence[Order]:
    """Return the orders that go to a city."""
    going = select(Order).join(Order.address).where(Address.city == city).order_by(Order.id)
    return (await session.scalars(going)).all()


async def best_sellers(session: AsyncSession, country: str, *, limit: int = 10) -> Sequence[Any]:
    """Return category, product, pieces, takings and customers of what a country buys most, the most first."""
    pieces = func.sum(OrderItem.quantity)
    report = (
        select(
            Category.name,
            Product.name,
            pieces,
            func.sum(OrderItem.quantity * OrderItem.price),
            func.count(Order.user_id.distinct()),
        )
        .join(Product.category)
        .join(OrderItem, OrderItem.product_id == Product.id)
        .join(OrderItem.order)
        .join(Order.user)
        .where(User.country == country)
        .group_by(Category.name, Product.name)
        .order_by(pieces.desc(), Product.name)
        .limit(limit)
    )
    return (await session.execute(report)).all()


async def never_sold(session: AsyncSession) -> Sequence[str]:
    """Return the names of the products that nobody has ordered."""
    sold = select(OrderItem.order_id).where(OrderItem.product_id == Product.id)
    return (await session.scalars(select(Product.name).where(~sold.exists()).order_by(Product.name))).all()
