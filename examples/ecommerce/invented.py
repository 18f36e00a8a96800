"""Invented people, goods and baskets; every function draws from the ``Random`` it is given and from nothing else."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

from beanie import PydanticObjectId

from examples.ecommerce.models import Product, Stock, Supplier
from examples.ecommerce.models.orders import Status

Row = dict[str, Any]

FIRST_NAMES = ("Ada", "Ben", "Carla", "Dmitri", "Elif", "Femi", "Grace", "Hiro", "Ines", "Jonas", "Kavya", "Liam")
LAST_NAMES = ("Andersson", "Bauer", "Costa", "Dubois", "Evans", "Fischer", "Garcia", "Hassan", "Ivanova", "Jensen")
CITIES = {
    "DE": ("Berlin", "Hamburg", "Köln"),
    "ES": ("Bilbao", "Madrid", "Sevilla"),
    "FR": ("Lyon", "Nantes", "Paris"),
    "GB": ("Bristol", "Leeds", "London"),
    "US": ("Austin", "Boston", "Denver"),
}
LANGUAGES = {"DE": "de", "ES": "es", "FR": "fr", "GB": "en", "US": "en"}
STREETS = ("High Street", "Church Lane", "Station Road", "Mill Lane", "Park Avenue")
GOODS = {
    "garden": ("spade", "hose", "lantern", "planter", "rake"),
    "kitchen": ("kettle", "pan", "whisk", "grater", "teapot"),
    "office": ("lamp", "notebook", "stapler", "chair", "desk mat"),
    "sports": ("yoga mat", "kettlebell", "jump rope", "bottle", "backpack"),
}
STYLES = ("Classic", "Compact", "Nordic", "Studio", "Urban", "Vintage")
MAKERS = ("Alpine", "Borealis", "Cascade", "Meridian", "Northwind", "Tideway")
WAREHOUSES = ("leipzig", "rotterdam")
JOURNEYS: tuple[tuple[Status, ...], ...] = (
    ("placed",),
    ("placed", "paid"),
    ("placed", "paid", "shipped"),
    ("placed", "paid", "shipped"),
)


def suppliers(random: Random, count: int) -> list[Supplier]:
    """Make suppliers."""
    return [
        Supplier(
            id=_object_id(random),
            name=f"{MAKERS[number % len(MAKERS)]} {random.choice(('Works', 'Trading', 'Goods'))} {number + 1}",
            country=random.choice(list(CITIES)),
        )
        for number in range(count)
    ]


def products(random: Random, count: int, suppliers: list[Supplier]) -> list[Product]:
    """Make products; each tenth is about to be replaced by the one before it."""
    made: list[Product] = []
    for number in range(count):
        category = random.choice(list(GOODS))
        made.append(
            Product(
                id=_object_id(random),
                sku=f"{category[:3].upper()}-{number + 1:04}",
                name=f"{random.choice(STYLES)} {random.choice(GOODS[category])}",
                category=category,
                price=Decimal(random.randint(399, 19_999)).scaleb(-2),
                tags=random.sample(("bestseller", "gift", "new", "outlet"), random.randrange(3)),
                supplier_id=random.choice(suppliers).id,
                replaced_by_sku=made[-1].sku if number % 10 == 9 else None,
            )
        )
    return made


def stock(random: Random, products: list[Product]) -> list[Stock]:
    """Put some of every product into every warehouse, and now and then none."""
    return [
        Stock(id=_object_id(random), sku=product.sku, warehouse=warehouse, on_hand=max(0, random.randint(-5, 60)))
        for product in products
        for warehouse in WAREHOUSES
    ]


def users(
    random: Random, start: int, count: int, until: datetime.date, days: int, *, invited_by: list[int] | None = None
) -> list[Row]:
    """Make the rows of users who registered in the year before; with ``invited_by`` half of them were invited."""
    rows: list[Row] = []
    for number in range(start, start + count):
        first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
        rows.append(
            {
                "email": f"{first}.{last}.{number + 1}@example.com".lower(),
                "name": f"{first} {last}",
                "country": random.choice(list(CITIES)),
                "registered_at": _moment(random, until - datetime.timedelta(days=days + random.randint(1, 365))),
                "invited_by_id": random.choice(invited_by) if invited_by and random.random() < 0.5 else None,
            }
        )
    return rows


def profile(random: Random, user: int, country: str) -> Row:
    """Make a user's profile; one in four has no telephone."""
    return {
        "user_id": user,
        "phone": f"+00 {random.randint(1_000_000, 9_999_999)}" if random.random() < 0.75 else None,
        "street": f"{random.randint(1, 199)} {random.choice(STREETS)}",
        "city": random.choice(CITIES[country]),
        "postcode": f"{random.randint(10_000, 99_999)}",
    }


def preferences(random: Random, user: int, country: str) -> Row:
    """Make a user's preferences."""
    return {"user_id": user, "language": LANGUAGES[country], "newsletter": random.random() < 0.4}


@dataclass(frozen=True)
class Basket:
    """What somebody has bought, and how far that has come."""

    user: int
    placed_at: datetime.datetime
    steps: tuple[Status, ...]
    lines: tuple[tuple[Product, str, int], ...]
    """Products, the warehouses they came from, and how many."""

    @property
    def order(self) -> Row:
        """The row of the order."""
        total = sum((quantity * product.price for product, _, quantity in self.lines), Decimal(0))
        return {"user_id": self.user, "status": self.steps[-1], "total": total, "placed_at": self.placed_at}

    def items(self, order: int) -> list[Row]:
        """Return the rows of the order's items."""
        return [
            {
                "order_id": order,
                "line": line,
                "sku": product.sku,
                "warehouse": warehouse,
                "quantity": quantity,
                "unit_price": product.price,
            }
            for line, (product, warehouse, quantity) in enumerate(self.lines, start=1)
        ]

    def history(self, order: int) -> list[Row]:
        """Return the rows of what became of the order, some hours between them."""
        return [
            {"order_id": order, "status": status, "at": self.placed_at + datetime.timedelta(hours=7 * step)}
            for step, status in enumerate(self.steps)
        ]

    def payments(self, random: Random, order: int) -> list[Row]:
        """Return the rows of the attempts to pay: one in twenty is declined first."""
        common = {"order_id": order, "user_id": self.user, "amount": self.order["total"]}
        at = self.placed_at + datetime.timedelta(hours=7)
        declined = {**common, "state": "declined", "reference": None, "created_at": at - datetime.timedelta(hours=1)}
        captured = {**common, "state": "captured", "reference": f"bank-{order:08}", "created_at": at}
        attempts = [declined] if random.random() < 0.05 else []
        return [*attempts, captured] if "paid" in self.steps else attempts

    def events(self, random: Random, order: int) -> list[Row]:
        """Return the rows of what was looked at before, of the order, and of its payment."""
        before = self.placed_at - datetime.timedelta(minutes=random.randint(5, 50))
        views = [
            (before, "view", product.sku, None) for product, _, _ in self.lines for _ in range(random.randint(1, 3))
        ]
        steps = [(row["at"], row["status"], None, order) for row in self.history(order)]
        kinds = {"placed": "order", "paid": "pay"}
        return [
            {
                "user_id": self.user,
                "at": at,
                "id": f"{random.getrandbits(128):032x}",
                "kind": kinds.get(kind, kind),
                "sku": sku,
                "order_id": about,
            }
            for at, kind, sku, about in [*views, *steps]
            if kind != "shipped"
        ]


def baskets(random: Random, user: int, products: list[Product], until: datetime.date, days: int) -> Iterator[Basket]:
    """Make up to six orders of a user in the days before ``until``, most of them paid."""
    for _ in range(random.randrange(7)):
        chosen = random.sample(products, random.randint(1, 4))
        yield Basket(
            user=user,
            placed_at=_moment(random, until - datetime.timedelta(days=random.randrange(days))),
            steps=random.choice(JOURNEYS),
            lines=tuple((product, random.choice(WAREHOUSES), random.randint(1, 3)) for product in chosen),
        )


def _moment(random: Random, day: datetime.date) -> datetime.datetime:
    second = datetime.timedelta(seconds=random.randrange(3_600, 86_400))
    return datetime.datetime.combine(day, datetime.time.min, datetime.UTC) + second


def _object_id(random: Random) -> PydanticObjectId:
    return PydanticObjectId(f"{random.getrandbits(96):024x}")
