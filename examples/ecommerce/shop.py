"""What the shop does, each in a function that takes a session over all services.

A function that writes commits once, at its end: all of it is kept, or nothing. Give it a session that keeps its
objects after the commit, ``fed.session(expire_on_commit=False)``, as one would any ``AsyncSession``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from beanie.operators import In
from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import selectinload

from examples.ecommerce.errors import (
    CardDeclinedError,
    EmailTakenError,
    EmptyBasketError,
    NotPayableError,
    OutOfStockError,
    PaymentDeclinedError,
    UnknownOrderError,
    UnknownProductError,
    UnknownUserError,
)
from examples.ecommerce.models import (
    Order,
    OrderItem,
    Payment,
    Product,
    Stock,
    Supplier,
    User,
    UserEvent,
    UserPreferences,
    UserProfile,
)
from examples.ecommerce.models.base import now
from examples.ecommerce.models.orders import PAID
from fedorm import AsyncFederatedSession, FederatedSession, federated_load

Charge = Callable[[int, Decimal], Awaitable[str]]
"""Charges a card for an order's number and amount; returns the bank's reference or raises ``CardDeclinedError``."""


# -- customers


async def register_user(
    session: AsyncFederatedSession,
    *,
    email: str,
    name: str,
    country: str,
    profile: UserProfile | None = None,
    newsletter: bool = False,
    invited_by_id: int | None = None,
) -> User:
    """Register a customer: rows in PostgreSQL and an event in ClickHouse. Raises ``EmailTakenError``."""
    user = User(
        email=email,
        name=name,
        country=country,
        profile=profile,
        preferences=UserPreferences(newsletter=newsletter),
        invited_by_id=invited_by_id,
    )
    session.add(user)
    try:
        await session.flush()  # The event needs the key.
    except IntegrityError as error:
        await session.rollback()
        raise EmailTakenError(email) from error
    session.add(UserEvent.happens("register", user_id=user.id))
    await session.commit()
    return user


@dataclass(frozen=True)
class CustomerOverview:
    """A customer with all that the services know of them."""

    user: User
    spent: Decimal
    """What they have paid so far."""


async def customer_overview(session: AsyncFederatedSession, user_id: int) -> CustomerOverview:
    """Return a customer with profile, orders, payments and the products they looked at, from all five services."""
    statement = (
        select(User)
        .where(User.id == user_id)
        .options(
            selectinload(User.profile),
            selectinload(User.preferences),
            selectinload(User.invited),
            federated_load(User.orders, Order.items, OrderItem.product),
            federated_load(User.unpaid_orders),
            federated_load(User.payments),
            federated_load(User.seen_products),
        )
    )
    user = (await session.scalars(statement)).one_or_none()
    if user is None:
        raise UnknownUserError(user_id)
    captured = [payment.amount for payment in user.payments if payment.state == "captured"]
    return CustomerOverview(user, sum(captured, Decimal(0)))


@dataclass(frozen=True)
class BestCustomer:
    """A customer and what they have bought."""

    user: User
    orders: int
    spent: Decimal


async def best_customers(session: AsyncFederatedSession, limit: int = 10) -> list[BestCustomer]:
    """Return who has paid for the most; the sums are made where the orders are."""
    spent = func.sum(Order.total).label("spent")
    statement = (
        select(Order.user_id, func.count().label("orders"), spent)
        .where(Order.status.in_(PAID))
        .group_by(Order.user_id)
        .order_by(spent.desc(), Order.user_id)
        .limit(limit)
    )
    sums = (await session.execute(statement)).all()
    found = await session.scalars(select(User).where(User.id.in_([row.user_id for row in sums])))
    users = {user.id: user for user in found}
    return [BestCustomer(users[row.user_id], row.orders, row.spent) for row in sums]


# -- products


async def product_page(session: AsyncFederatedSession, sku: str, *, viewer: User | None = None) -> Product:
    """Return a product with supplier, stock, and what replaces it; note who has looked at it."""
    query = session.find(Product, Product.sku == sku).options(
        federated_load(Product.supplier, Supplier.products),
        federated_load(Product.stock),
        federated_load(Product.replaced_by),
    )
    product: Product | None = await query.first_or_none()
    if product is None:
        raise UnknownProductError([sku])
    if viewer is not None:
        session.add(UserEvent.happens("view", user_id=viewer.id, sku=sku))
        await session.commit()
    return product


# -- orders


async def place_order(session: AsyncFederatedSession, user_id: int, basket: Mapping[str, int]) -> Order:
    """Sell a basket of SKUs and quantities: an order in PostgreSQL, less stock in MongoDB, an event in ClickHouse.

    Raises ``OutOfStockError``, and fedorm's ``StaleDocumentError`` when somebody else has taken from the same shelf
    meanwhile: then nothing is written either, and a new session may try again.
    """
    user = await known_user(session, user_id)
    products = await products_in(session, basket)
    # Before anything is changed: whoever catches the error may go on with the session.
    shelves = {sku: shelf_with(products[sku], quantity) for sku, quantity in basket.items()}
    order = Order(user=user, placed_at=now(), total=Decimal(0))
    for line, (sku, quantity) in enumerate(basket.items(), start=1):
        shelves[sku].on_hand -= quantity
        product = products[sku]
        order.items.append(
            OrderItem(line=line, product=product, stock=shelves[sku], quantity=quantity, unit_price=product.price)
        )
        order.total += quantity * product.price
    order.becomes("placed", order.placed_at)
    session.add(order)
    await session.flush()  # The event needs the key.
    session.add(UserEvent.happens("order", user_id=user.id, order_id=order.id))
    await session.commit()
    return order


async def known_user(session: AsyncFederatedSession, user_id: int) -> User:
    """Return a user, or raise ``UnknownUserError``."""
    user = await session.get(User, user_id)
    if user is None:
        raise UnknownUserError(user_id)
    return user


async def products_in(session: AsyncFederatedSession, basket: Mapping[str, int]) -> dict[str, Product]:
    """Return a basket's products with their stock, by SKU. Raises ``EmptyBasketError``, ``UnknownProductError``."""
    if not basket or min(basket.values()) < 1:
        raise EmptyBasketError("there is nothing in the basket, or less than nothing")
    query = session.find(Product, In(Product.sku, list(basket))).options(federated_load(Product.stock))
    products = {product.sku: product for product in await query.to_list()}
    if unknown := basket.keys() - products.keys():
        raise UnknownProductError(unknown)
    return products


def shelf_with(product: Product, quantity: int) -> Stock:
    """Return the first shelf that has enough of a product, or raise ``OutOfStockError``."""
    for stock in product.stock:
        if stock.on_hand >= quantity:
            return stock
    raise OutOfStockError(product.sku, quantity)


async def pay_order(session: AsyncFederatedSession, order_id: int, charge: Charge) -> Payment:
    """Charge an order's total: a payment in MySQL, the order's status in PostgreSQL, an event in ClickHouse.

    Raises ``PaymentDeclinedError`` after it has kept the attempt.
    """
    # Locked: two clicks on "pay" are one payment.
    order = await session.get(Order, order_id, options=[selectinload(Order.history)], with_for_update=True)
    if order is None:
        raise UnknownOrderError(order_id)
    if order.status != "placed":
        raise NotPayableError(f"order {order.id} is {order.status}")
    payment = Payment(order=order, user_id=order.user_id, amount=order.total)
    session.add(payment)
    try:
        payment.reference = await charge(order.id, order.total)
    except CardDeclinedError as error:
        payment.state = "declined"
        await session.commit()
        raise PaymentDeclinedError(f"order {order.id}: {error}") from error
    payment.state = "captured"
    order.becomes("paid", now())
    session.add(UserEvent.happens("pay", user_id=order.user_id, order_id=order.id))
    await session.commit()
    return payment


def _order_page(order_id: int) -> Select[Any]:
    return (
        select(Order)
        .where(Order.id == order_id)
        .options(
            federated_load(Order.user, User.profile),
            federated_load(Order.items, OrderItem.product, Product.supplier),
            federated_load(Order.items, OrderItem.stock),
            federated_load(Order.payments),
            federated_load(Order.history),
        )
    )


async def order_page(session: AsyncFederatedSession, order_id: int) -> Order:
    """Return an order with its user, items, products, suppliers, payments and history, from four services."""
    order: Order | None = (await session.scalars(_order_page(order_id))).one_or_none()
    if order is None:
        raise UnknownOrderError(order_id)
    return order


def order_page_sync(session: FederatedSession, order_id: int) -> Order:
    """Return the same in code that is not async: a Flask or Django view, a script."""
    order: Order | None = session.scalars(_order_page(order_id)).one_or_none()
    if order is None:
        raise UnknownOrderError(order_id)
    return order
