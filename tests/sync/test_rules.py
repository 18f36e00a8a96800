"""What a rule says about rows: which are wanted, what becomes of them, and what becomes of those that are gone."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation
from fedorm.sync import CDC, Batch, EventDriven, RealTime, SyncRule, sync_hook
from fedorm.testing.plugin import FreshDatabase
from tests.sync.parts import (
    Deal,
    OtherPurchase,
    PurchaseDocument,
    PurchaseFact,
    PurchaseSummary,
    add,
    become,
    change,
    federation,
    remove,
    rule,
)
from tests.sync.watching import rows_of, until

STRATEGIES = {"cdc": CDC(), "batch": Batch(every=0.1), "real-time": RealTime(poll=0.1, detect_deletes=0.1)}


FROM_DOCUMENT = {"id": "purchase_id", "total": "value"}


@pytest.fixture
def urls(fresh_database: FreshDatabase) -> dict[str, str]:
    return {"parts_near": fresh_database("postgresql"), "parts_far": fresh_database("postgresql")}


@pytest.fixture(params=STRATEGIES.values(), ids=STRATEGIES.keys())
def strategy(request: pytest.FixtureRequest) -> Any:
    return request.param


# -- mapping


async def test_fields_are_mapped_and_those_of_one_name_copied(urls: dict[str, str]) -> None:
    async with federation(urls, rule(CDC())) as fed, fed.sync.running():
        await add(fed, Deal(id=1, total=Decimal("2.50"), note="n", body="b"))
        await become(fed, {1: (Decimal("2.50"), "n", "b", None)}, "value", "note", "body", "active")


async def test_only_what_is_mapped(urls: dict[str, str]) -> None:
    """Other columns of the target are left as they are."""
    async with federation(urls, rule(CDC(), copy_unmapped=False)) as fed:
        await add(fed, Deal(id=1, total=Decimal(2), note="n"), PurchaseFact(purchase_id=1, value=None, note="own"))
        async with fed.sync.running():
            await become(fed, {1: (Decimal(2), "own")}, "value", "note")
            await change(fed, Deal, 1, total=Decimal(3), note="other")
            await become(fed, {1: (Decimal(3), "own")}, "value", "note")


async def test_a_path_into_a_value(urls: dict[str, str]) -> None:
    """An object on the way that is not there makes it None."""
    mapped = {"id": "purchase_id", "data.of.whom": "email"}
    async with federation(urls, rule(CDC(), fields=mapped)) as fed, fed.sync.running():
        await add(
            fed,
            Deal(id=1, data={"of": {"whom": "me"}}),
            Deal(id=2, data={"of": None}),
            Deal(id=3),
        )
        await become(fed, {1: "me", 2: None, 3: None}, "email")


# -- which rows


async def test_a_row_begins_and_ceases_to_be_wanted(urls: dict[str, str], strategy: Any) -> None:
    async with federation(urls, rule(strategy, where=lambda row: row["total"] > 0)) as fed:
        await add(fed, Deal(id=1, total=Decimal(1)), Deal(id=2, total=Decimal(0)))
        async with fed.sync.running():
            await become(fed, {1: Decimal(1)})
            await change(fed, Deal, 1, total=Decimal(-1))
            await change(fed, Deal, 2, total=Decimal(2))
            await become(fed, {2: Decimal(2)})
            await change(fed, Deal, 1, total=Decimal(5))
            await become(fed, {1: Decimal(5), 2: Decimal(2)})
        assert (await fed.sync.verify("facts")).equal


async def test_code_may_be_async_and_may_refuse_rows(urls: dict[str, str], strategy: Any) -> None:
    """``where`` sees the source's row, ``transform`` the mapped one, whose ``source`` it is; None is not wanted."""

    async def where(row: Any) -> bool:
        return row["id"] != 1

    async def transform(row: Any) -> Any:
        if row.source["note"] == "no":
            return None
        return row | {"value": row["value"] * 2, "email": f"{row['purchase_id']}@{row.source['id']}"}

    async with federation(urls, rule(strategy, where=where, transform=transform)) as fed:
        await add(fed, Deal(id=1), Deal(id=2, total=Decimal(2)), Deal(id=3, note="no"))
        async with fed.sync.running():
            await become(fed, {2: (Decimal(4), "2@2")}, "value", "email")
            await change(fed, Deal, 3, note="yes")
            await change(fed, Deal, 2, note="no")
            await become(fed, {3: (Decimal(2), "3@3")}, "value", "email")
        assert (await fed.sync.verify("facts")).equal


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_rows_are_transformed_together(urls: dict[str, str], is_async: bool) -> None:
    sizes: list[int] = []

    def together(rows: list[Any]) -> list[Any]:
        sizes.append(len(rows))
        return [None if row["value"] == 3 else {"value": row["value"] + 1, "note": "t"} for row in rows]

    async def later(rows: list[Any]) -> list[Any]:
        return together(rows)

    async with federation(urls, rule(CDC(), transform_batch=later if is_async else together)) as fed:
        await add(fed, *[Deal(id=number, total=Decimal(number)) for number in range(1, 6)])
        async with fed.sync.running():
            await become(fed, {n: (Decimal(n + 1), "t") for n in (1, 2, 4, 5)}, "value", "note")
            assert sizes == [5]
            await change(fed, Deal, 1, total=Decimal(3))
            await become(fed, {n: (Decimal(n + 1), "t") for n in (2, 4, 5)}, "value", "note")


# -- hooks


class Visitor(FederatedBase):
    __service__ = "hooks_near"
    __tablename__ = "visitors"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100))


class VisitorEvent(FederatedBase):
    __service__ = "hooks_far"
    __tablename__ = "visitor_events"
    user_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    user_email: Mapped[str] = mapped_column(String(100))


@sync_hook(source=Visitor, to=VisitorEvent, strategy=Batch(every=3600))
def visitor_event(user: Visitor) -> VisitorEvent | None:
    if user.email.startswith("nobody"):
        return None
    return VisitorEvent(user_id=user.id, user_email=user.email)


async def test_a_function_makes_the_rows(fresh_database: FreshDatabase) -> None:
    """A decorated function is a rule with its name, given objects and returning objects; None is not wanted."""
    urls = {"hooks_near": fresh_database("postgresql"), "hooks_far": fresh_database("mysql")}
    async with federation(urls) as fed:
        assert list(fed.sync.rules) == ["visitor_event"]
        await add(fed, Visitor(id=1, email="a@example.com"), Visitor(id=2, email="nobody@example.com"))

        async def events() -> dict[Any, Any]:
            return {k: row["user_email"] for k, row in (await rows_of(fed, VisitorEvent, key="user_id")).items()}

        async with fed.sync.running():
            assert await until(events) == {1: "a@example.com"}
            await change(fed, Visitor, 2, email="b@example.com")
            await remove(fed, Visitor, 1)
            await fed.sync.backfill("visitor_event")
            assert await events() == {2: "b@example.com"}


# -- rows that are gone


async def test_copies_of_gone_rows_stay(urls: dict[str, str], strategy: Any) -> None:
    """``on_delete="ignore"``: so does that of a row that is not wanted any more."""
    ignoring = rule(strategy, on_delete="ignore", where=lambda row: row["total"] > 0)
    async with federation(urls, ignoring) as fed:
        await add(fed, Deal(id=1), Deal(id=2), Deal(id=3))
        async with fed.sync.running():
            await become(fed, {1: Decimal(1), 2: Decimal(1), 3: Decimal(1)})
            await remove(fed, Deal, 1)
            await change(fed, Deal, 2, total=Decimal(0))
            await change(fed, Deal, 3, total=Decimal(2))
            await become(fed, {1: Decimal(1), 2: Decimal(1), 3: Decimal(2)})
        assert (await fed.sync.verify("facts")).equal


async def test_copies_of_gone_rows_are_marked(urls: dict[str, str], strategy: Any) -> None:
    """``on_delete="mark"``; what the rule's own code says of a row that has come back takes the mark away."""
    marking = rule(strategy, on_delete="mark", mark={"active": False}, transform=lambda row: {**row, "active": True})
    async with federation(urls, marking) as fed:
        await add(fed, Deal(id=1, total=Decimal(1)), Deal(id=2, total=Decimal(2)))
        async with fed.sync.running():
            await become(fed, {1: (Decimal(1), True), 2: (Decimal(2), True)}, "value", "active")
            await remove(fed, Deal, 1)
            await become(fed, {1: (Decimal(1), False), 2: (Decimal(2), True)}, "value", "active")
            await add(fed, Deal(id=1, total=Decimal(3)))
            await become(fed, {1: (Decimal(3), True), 2: (Decimal(2), True)}, "value", "active")
        assert (await fed.sync.verify("facts")).equal


# -- several rules


async def test_one_source_with_several_rules(fresh_database: FreshDatabase) -> None:
    """Each rule of a model has its own target, strategy and position."""
    urls = {
        "parts_near": fresh_database("postgresql"),
        "parts_far": fresh_database("mysql"),
        "parts_documents": fresh_database("mongodb"),
        "parts_third": fresh_database("postgresql"),
    }
    rules = [
        rule(CDC()),
        rule(EventDriven(), to=PurchaseDocument, fields=None, name="documents"),
        rule(RealTime(detect_deletes=0.1), to="PurchaseSummary", name="summaries"),
    ]
    async with federation(urls, *rules) as fed, fed.sync.running():
        await add(fed, Deal(id=1, total=Decimal(1), note="n"), Deal(id=2))
        await change(fed, Deal, 1, total=Decimal(5))
        await remove(fed, Deal, 2)
        await become(fed, {1: (Decimal(5), "n")}, "value", "note")
        await become(fed, {1: (Decimal(5), "n")}, "total", "note", model=PurchaseDocument)
        await become(fed, {1: Decimal(5)}, model=PurchaseSummary)


async def test_rules_of_documents_are_added_before_a_federation_is_opened(fresh_database: FreshDatabase) -> None:
    """As a program does: what the server can do is asked when it is opened."""
    urls = {"parts_documents": fresh_database("mongodb"), "parts_third": fresh_database("postgresql")}
    rules = [
        SyncRule(source=PurchaseDocument, to=PurchaseSummary, strategy=strategy, fields=FROM_DOCUMENT, name=name)
        for name, strategy in (("logged", CDC()), ("told", EventDriven()))
    ]
    for wanted, one in enumerate(rules, start=1):
        fed = Federation(urls)
        fed.sync.add(one)
        async with fed:
            await fed.create_all()
            async with fed.sync.running():
                await add(fed, PurchaseDocument(id=wanted, total=Decimal(wanted)))
                await become(fed, {n: Decimal(n) for n in range(1, wanted + 1)}, model=PurchaseSummary)


async def test_a_chain_of_rules(fresh_database: FreshDatabase) -> None:
    """What a rule writes is a change of its target's, which the next one hands on."""
    urls = {name: fresh_database("postgresql") for name in ("parts_near", "parts_far", "parts_third")}
    chain = SyncRule(source=PurchaseFact, to=PurchaseSummary, strategy=CDC(), name="chain")
    async with federation(urls, rule(RealTime(detect_deletes=0.1)), chain) as fed, fed.sync.running():
        await add(fed, Deal(id=1, total=Decimal(1)), Deal(id=2, total=Decimal(2)))
        await become(fed, {1: Decimal(1), 2: Decimal(2)}, model=PurchaseSummary)
        await change(fed, Deal, 1, total=Decimal(9))
        await remove(fed, Deal, 2)
        await become(fed, {1: Decimal(9)}, model=PurchaseSummary)


async def test_two_sources_of_one_target(urls: dict[str, str]) -> None:
    """Neither removes what it does not have itself: not when it begins, not when its own table is emptied."""
    other = rule(CDC(), source=OtherPurchase, name="others")
    async with federation(urls, rule(CDC()), other) as fed:
        await add(fed, Deal(id=1, total=Decimal(1)), Deal(id=2), OtherPurchase(id=11, total=Decimal(2)))
        async with fed.sync.running(["facts"]):
            await become(fed, {1: Decimal(1), 2: Decimal(1)})
        async with fed.sync.running(["others", "facts"]):
            await become(fed, {1: Decimal(1), 2: Decimal(1), 11: Decimal(2)})
            await remove(fed, Deal, 2)
            await change(fed, OtherPurchase, 11, total=Decimal(3))
            await become(fed, {1: Decimal(1), 11: Decimal(3)})
        assert (await fed.sync.verify("facts")).equal
        await fed.sync.backfill("others")
        assert (await fed.sync.verify("others", repair=True)).equal
        await become(fed, {1: Decimal(1), 11: Decimal(3)})
