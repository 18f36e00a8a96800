from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from beanie import PydanticObjectId

from examples.ecommerce.bank import BANKS
from examples.ecommerce.models import Product, Stock, Supplier
from examples.ecommerce.tests.file_bank import FileBank, Opens
from fedorm import AsyncFederatedSession, Federation


@pytest.fixture
def urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    """Give each service of the shop an empty database on a real server."""
    return {
        "users": fresh_database("postgresql"),
        "orders": fresh_database("postgresql"),
        "payments": fresh_database("mysql"),
        "inventory": fresh_database("mongodb"),
        "analytics": fresh_database("clickhouse"),
    }


@pytest.fixture
async def fed(urls: dict[str, str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation(urls) as federation:
        await federation.create_all()
        yield federation


@pytest.fixture
async def session(fed: Federation) -> AsyncIterator[AsyncFederatedSession]:
    async with fed.session(expire_on_commit=False) as opened:
        yield opened


SUPPLIER = PydanticObjectId("0" * 24)


def product(sku: str, name: str, price: str, **more: Any) -> Product:
    return Product(sku=sku, name=name, category="home", price=Decimal(price), supplier_id=SUPPLIER, **more)


@pytest.fixture
async def goods(fed: Federation) -> None:
    """A kettle in two warehouses, a lamp in one, and an old lamp that there is no more of."""
    supplier = Supplier(id=SUPPLIER, name="Northwind", country="GB")
    async with fed.session() as session:
        session.add_all(
            [
                supplier,
                product("KIT-1", "kettle", "20.50"),
                product("OFF-1", "lamp", "9.99"),
                product("OFF-0", "old lamp", "5.00", replaced_by_sku="OFF-1"),
                Stock(sku="KIT-1", warehouse="leipzig", on_hand=1),
                Stock(sku="KIT-1", warehouse="rotterdam", on_hand=5),
                Stock(sku="OFF-1", warehouse="leipzig", on_hand=3),
            ]
        )
        await session.commit()


@pytest.fixture
def opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opens:
    """Opens the bank "test" with what it is to be like; its books are the same each time."""

    def open_bank(**likes: Any) -> FileBank:
        bank = FileBank(tmp_path / "bank.db", **likes)
        monkeypatch.setitem(BANKS, "test", bank)
        return bank

    return open_bank
