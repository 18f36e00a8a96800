"""Models of what is bought, by whom and of which parts, for tests of what rules say; and what these need in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, ForeignKey, Numeric, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fedorm import Federated, FederatedBase, FederatedDocument, Federation, federated_relationship
from fedorm.sync import SyncRule
from tests.sync.watching import rows_of, until


class Dealer(FederatedBase):
    __service__ = "parts_buyers"
    __tablename__ = "buyers"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(String(100))


class Deal(FederatedBase):
    __service__ = "parts_near"
    __tablename__ = "purchases"
    id: Mapped[int] = mapped_column(primary_key=True)
    buyer_id: Mapped[int | None]
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2), default=Decimal(1))
    note: Mapped[str | None] = mapped_column(String(100))
    data: Mapped[Any | None] = mapped_column(JSON)
    body: Mapped[str | None] = mapped_column(Text)
    buyer: Federated[Dealer] = federated_relationship(local_key="buyer_id")
    parts: Mapped[list[Spare]] = relationship(order_by="Spare.id", back_populates="purchase")


class Spare(FederatedBase):
    __service__ = "parts_near"
    __tablename__ = "parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    purchase_id: Mapped[int] = mapped_column(ForeignKey("purchases.id"))
    sku: Mapped[str]
    purchase: Mapped[Deal] = relationship(back_populates="parts")


class OtherPurchase(FederatedBase):
    __service__ = "parts_near"
    __tablename__ = "other_purchases"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2), default=Decimal(1))
    note: Mapped[str | None] = mapped_column(String(100))


class PurchaseFact(FederatedBase):
    __service__ = "parts_far"
    __tablename__ = "purchase_facts"
    purchase_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
    note: Mapped[str | None] = mapped_column(String(20))
    body: Mapped[str | None] = mapped_column(Text)
    email: Mapped[str | None] = mapped_column(String(100))
    parts: Mapped[int | None]
    active: Mapped[bool | None]


class PurchaseSummary(FederatedBase):
    """The end of a chain."""

    __service__ = "parts_third"
    __tablename__ = "purchase_summaries"
    purchase_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))


class PurchaseDocument(FederatedDocument):
    __service__ = "parts_documents"
    id: int  # type: ignore[assignment] # Beanie's own way to give ids of another type
    note: str | None = None
    total: Decimal | None = None
    buyer: dict[str, Any] | None = None
    parts: list[dict[str, Any]] | None = None

    class Settings:
        name = "purchases"


MAPPED = {"id": "purchase_id", "total": "value"}


def rule(strategy: Any, **options: Any) -> SyncRule:
    """The rule ``facts`` from purchases to facts, with these options."""
    given = {"source": Deal, "to": PurchaseFact, "fields": MAPPED, "name": "facts"} | options
    return SyncRule(strategy=strategy, **given)


@asynccontextmanager
async def federation(urls: dict[str, str], *rules: SyncRule) -> AsyncIterator[Federation]:
    """A federation with these rules, and with its tables."""
    async with Federation(urls) as fed:
        fed.sync.lease = 2.0
        for one in rules:
            fed.sync.add(one)
        await fed.create_all()
        yield fed


async def add(fed: Federation, *objects: Any) -> None:
    async with fed.session() as session:
        session.add_all(objects)
        await session.commit()


async def change(fed: Federation, model: Any, key: Any, **values: Any) -> None:
    async with fed.session() as session:
        row = await session.get(model, key)
        for name, value in values.items():
            setattr(row, name, value)
        await session.commit()


async def remove(fed: Federation, model: Any, key: Any) -> None:
    async with fed.session() as session:
        await session.delete(await session.get(model, key))
        await session.commit()


async def run_sql(fed: Federation, service: str, *statements: str) -> None:
    """Run statements that no model knows of, past the session."""
    store: Any = fed.stores[service]

    def run() -> None:
        with store.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    from sqlalchemy.util import greenlet_spawn

    await greenlet_spawn(run)


async def fields_of(fed: Federation, model: Any, *names: str, key: str) -> dict[Any, Any]:
    """Some fields of all rows, by key; of one field its values alone."""
    rows = await rows_of(fed, model, key=key)
    if len(names) == 1:
        return {key: row[names[0]] for key, row in rows.items()}
    return {key: tuple(row[name] for name in names) for key, row in rows.items()}


async def facts(fed: Federation, *names: str) -> dict[Any, Any]:
    return await fields_of(fed, PurchaseFact, *(names or ("value",)), key="purchase_id")


async def become(
    fed: Federation, wanted: dict[Any, Any], *names: str, model: Any = PurchaseFact, key: str = ""
) -> None:
    """Wait until the target's rows are these, and see that they stay so."""
    names, key = names or ("value",), key or ("purchase_id" if model is not PurchaseDocument else "id")
    found: dict[Any, Any] = {}

    async def are() -> bool:
        nonlocal found
        found = await fields_of(fed, model, *names, key=key)
        return found == wanted

    try:
        await until(are, patience=20.0)
    except AssertionError:
        errors = [letter.error for name in fed.sync.rules for letter in await fed.sync.dead_letters(name)]
        differing = {key: (wanted.get(key), found.get(key)) for key in {*wanted, *found}}
        differing = {key: pair for key, pair in differing.items() if pair[0] != pair[1]}
        shown = dict(list(differing.items())[:10])
        raise AssertionError(f"wanted and found: {shown}; {errors} {await fed.sync.status()}") from None


async def letters(fed: Federation, number: int, name: str = "facts") -> list[Any]:
    """Wait until there are so many dead letters, and return them."""

    async def are() -> list[Any] | None:
        found = await fed.sync.dead_letters(name)
        return found if len(found) == number else None

    return list(await until(are, what=f"{number} dead letters")) if number else await _none(fed, name)


async def _none(fed: Federation, name: str) -> list[Any]:
    while found := await fed.sync.dead_letters(name):
        await asyncio.sleep(0.05)
    return found
