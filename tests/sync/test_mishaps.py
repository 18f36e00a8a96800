"""Rows that fail, tables that change and logs that do not tell all: the rest goes on, and nothing is lost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fedorm.sync import CDC, Batch, EventDriven, RealTime, SyncRule
from fedorm.testing.plugin import FreshDatabase
from tests.sync.parts import (
    MAPPED,
    Deal,
    PurchaseDocument,
    PurchaseFact,
    add,
    become,
    change,
    facts,
    federation,
    letters,
    remove,
    rule,
    run_sql,
)
from tests.sync.watching import until

STRATEGIES = {"cdc": CDC(), "batch": Batch(every=0.1), "real-time": RealTime(poll=0.1, detect_deletes=0.1)}
LONG = "x" * 50
THINGS = "CREATE TABLE things (id int PRIMARY KEY, size numeric(10, 2), note varchar(9))"


@pytest.fixture
def urls(fresh_database: FreshDatabase) -> dict[str, str]:
    return {"parts_near": fresh_database("postgresql"), "parts_far": fresh_database("postgresql")}


@pytest.fixture(params=STRATEGIES.values(), ids=STRATEGIES.keys())
def strategy(request: pytest.FixtureRequest) -> Any:
    return request.param


# -- rows that fail


@pytest.mark.parametrize("target", ["postgresql", "mysql"])
async def test_a_column_that_is_too_narrow(target: str, strategy: Any, fresh_database: FreshDatabase) -> None:
    """Rows that do not fit are put aside, each with what is wrong; repaired, they go through by themselves."""
    urls = {"parts_near": fresh_database("postgresql"), "parts_far": fresh_database(target)}
    async with federation(urls, rule(strategy)) as fed:
        purchases = [Deal(id=number, total=Decimal(number), note="short") for number in range(1, 40)]
        purchases[4].note = LONG
        await add(fed, *purchases)
        async with fed.sync.running():
            wanted = {number: Decimal(number) for number in range(1, 40) if number != 5}
            await become(fed, wanted)
            (first,) = await letters(fed, 1)
            assert (first.key, first.row["note"]) == ([5], LONG)
            assert first.error.startswith("RowError: service 'parts_far'")
            assert LONG not in first.error
            await change(fed, Deal, 7, note=LONG, total=Decimal(77))
            await change(fed, Deal, 8, total=Decimal(88))
            wanted[8] = Decimal(88)
            await become(fed, wanted)
            assert [letter.key for letter in await letters(fed, 2)] == [[5], [7]]
            await change(fed, Deal, 5, note="fits")
            await change(fed, Deal, 7, note="fits")
            await become(fed, wanted | {5: Decimal(5), 7: Decimal(77)})
            await letters(fed, 0)
        assert (await fed.sync.verify("facts")).equal


async def test_events_of_rows_that_fail(urls: dict[str, str]) -> None:
    """A relay goes on after them, too."""
    async with federation(urls, rule(EventDriven())) as fed, fed.sync.running():
        await add(fed, Deal(id=1, note=LONG), Deal(id=2))
        await become(fed, {2: Decimal(1)})
        await letters(fed, 1)
        await change(fed, Deal, 1, note="fits")
        await become(fed, {1: Decimal(1), 2: Decimal(1)})
        await letters(fed, 0)


async def test_a_failing_row_in_a_large_transaction(urls: dict[str, str]) -> None:
    """Its transaction is written in parts then: all rows but that one arrive."""
    async with federation(urls, rule(CDC(batch=100))) as fed, fed.sync.running():
        await add(fed, Deal(id=0))
        await become(fed, {0: Decimal(1)})
        many = [Deal(id=number, note=LONG if number in (1, 2_500, 6_000) else "n") for number in range(1, 6_001)]
        await add(fed, *many)
        await add(fed, Deal(id=7_000))
        wanted = {number: Decimal(1) for number in (*range(6_001), 7_000) if number not in (1, 2_500, 6_000)}
        await become(fed, wanted)
        assert sorted(letter.key for letter in await letters(fed, 3)) == [[1], [2_500], [6_000]]


@pytest.mark.parametrize("how", ["where", "transform", "transform_batch"])
async def test_code_that_fails_for_a_row(how: str, urls: dict[str, str], strategy: Any) -> None:
    """That row is put aside with the error; it is retried on request, and dropped once it has gone through."""
    broken = True

    def one(row: Any) -> Any:
        if broken and row["total" if how == "where" else "value"] == 2:
            raise ValueError("two is not allowed")
        return row

    def code(rows: Any) -> Any:
        return [one(row) for row in rows] if how == "transform_batch" else one(rows)

    async with federation(urls, rule(strategy, **{how: code})) as fed:
        await add(fed, *[Deal(id=number, total=Decimal(number)) for number in range(1, 6)])
        async with fed.sync.running():
            await become(fed, {number: Decimal(number) for number in (1, 3, 4, 5)})
            (letter,) = await letters(fed, 1)
            assert (letter.key, letter.error) == ([2], "ValueError: two is not allowed")
            assert await fed.sync.retry_dead_letters("facts") == 0
            assert [one.attempts > 1 for one in await letters(fed, 1)] == [True]
            verified = await fed.sync.verify("facts")
            assert (verified.equal, verified.failed) == (False, 1)
            broken = False
            assert await fed.sync.retry_dead_letters("facts") == 1
            await become(fed, {number: Decimal(number) for number in range(1, 6)})
            await letters(fed, 0)
        assert (await fed.sync.verify("facts")).equal


async def test_a_row_that_was_put_aside_and_is_gone(urls: dict[str, str], strategy: Any) -> None:
    """Nothing is left of it, in the target or among the dead letters."""
    async with federation(urls, rule(strategy)) as fed:
        await add(fed, Deal(id=1, note=LONG), Deal(id=2))
        async with fed.sync.running():
            await letters(fed, 1)
            await remove(fed, Deal, 1)
            await add(fed, Deal(id=3))
            await become(fed, {2: Decimal(1), 3: Decimal(1)})
            if isinstance(strategy, CDC):
                await letters(fed, 0)
            else:
                assert await fed.sync.retry_dead_letters("facts") == 1
            assert await fed.sync.dead_letters("facts") == []


async def test_dead_letters_are_given_up(urls: dict[str, str]) -> None:
    async with federation(urls, rule(CDC())) as fed, fed.sync.running():
        await add(fed, *[Deal(id=number, note=LONG) for number in (1, 2, 3)])
        found = await letters(fed, 3)
        assert await fed.sync.drop_dead_letters("facts", [found[0].id]) == 1
        assert [letter.id for letter in await letters(fed, 2)] == [letter.id for letter in found[1:]]
        assert await fed.sync.drop_dead_letters("facts") == 2
        assert await fed.sync.dead_letters("facts") == []


async def test_documents_that_do_not_fit_their_class(fresh_database: FreshDatabase) -> None:
    urls = {"parts_near": fresh_database("postgresql"), "parts_documents": fresh_database("mongodb")}

    def wrong(row: Any) -> Any:
        return row | {"parts": "none"} if row["id"] == 1 else row

    documents = rule(CDC(), to=PurchaseDocument, fields=None, transform=wrong)
    async with federation(urls, documents) as fed, fed.sync.running():
        await add(fed, Deal(id=1), Deal(id=2, total=Decimal(2)))
        await become(fed, {2: Decimal(2)}, "total", model=PurchaseDocument)
        (letter,) = await letters(fed, 1)
        assert (letter.key, "parts" in letter.error) == ([1], True)


# -- tables that change


async def test_a_column_that_is_added_meanwhile(urls: dict[str, str], strategy: Any) -> None:
    """The rule does not know of it, and goes on."""
    async with federation(urls, rule(strategy)) as fed, fed.sync.running():
        await add(fed, Deal(id=1))
        await become(fed, {1: Decimal(1)})
        await run_sql(fed, "parts_near", "ALTER TABLE purchases ADD COLUMN colour text DEFAULT 'red'")
        await run_sql(fed, "parts_near", "INSERT INTO purchases (id, total, colour) VALUES (2, 2, 'blue')")
        await change(fed, Deal, 1, total=Decimal(3))
        await become(fed, {1: Decimal(3), 2: Decimal(2)})


async def test_a_table_that_is_emptied_at_once(urls: dict[str, str], strategy: Any) -> None:
    """TRUNCATE removes all copies; what comes after it in the same transaction, or later, is there."""
    async with federation(urls, rule(strategy)) as fed, fed.sync.running():
        await add(fed, *[Deal(id=number) for number in range(1, 300)])
        await become(fed, {number: Decimal(1) for number in range(1, 300)})
        await run_sql(
            fed,
            "parts_near",
            "INSERT INTO purchases (id, total) VALUES (1000, 1)",
            "TRUNCATE purchases, parts",
            "INSERT INTO purchases (id, total) VALUES (2000, 2), (5, 5)",
        )
        await become(fed, {2000: Decimal(2), 5: Decimal(5)})
        await add(fed, Deal(id=6))
        await become(fed, {2000: Decimal(2), 5: Decimal(5), 6: Decimal(1)})


async def test_values_that_the_log_leaves_out(urls: dict[str, str]) -> None:
    """PostgreSQL does not log a long value that was not changed: the copy keeps it, under a new key, too."""
    async with federation(urls, rule(CDC())) as fed:
        body = "".join(chr(65 + number * number % 53) for number in range(20_000))
        await run_sql(fed, "parts_near", "ALTER TABLE purchases ALTER COLUMN body SET STORAGE EXTERNAL")
        await add(fed, *[Deal(id=number, body=body) for number in (1, 2, 3)])
        async with fed.sync.running():
            await become(fed, {number: (Decimal(1), body) for number in (1, 2, 3)}, "value", "body")
            await change(fed, Deal, 1, total=Decimal(2))
            await run_sql(fed, "parts_near", "UPDATE purchases SET id = 20 WHERE id = 2")
            await run_sql(
                fed,
                "parts_near",
                "UPDATE purchases SET total = 7 WHERE id = 3",
                "UPDATE purchases SET body = 'short' WHERE id = 3",
                "UPDATE purchases SET total = 8 WHERE id = 3",
            )
            wanted = {1: (Decimal(2), body), 20: (Decimal(1), body), 3: (Decimal(8), "short")}
            await become(fed, wanted, "value", "body")


async def test_keys_that_change_places(urls: dict[str, str]) -> None:
    """Rows that take each other's keys in one transaction are still two."""
    async with federation(urls, rule(CDC())) as fed, fed.sync.running():
        await add(fed, Deal(id=1, total=Decimal(1)), Deal(id=2, total=Decimal(2)))
        await become(fed, {1: Decimal(1), 2: Decimal(2)})
        await run_sql(
            fed,
            "parts_near",
            "UPDATE purchases SET id = 3 WHERE id = 1",
            "UPDATE purchases SET id = 1 WHERE id = 2",
            "UPDATE purchases SET id = 2 WHERE id = 3",
        )
        await become(fed, {1: Decimal(2), 2: Decimal(1)})


async def test_tables_that_no_class_declares(fresh_database: FreshDatabase) -> None:
    """They are known once they are reflected, as themselves or by name."""
    urls = {"raw_near": fresh_database("postgresql"), "raw_far": fresh_database("mysql")}
    async with federation(urls) as fed:
        for service in urls:
            await run_sql(
                fed, service, "CREATE TABLE things (id int PRIMARY KEY, size numeric(10, 2), note varchar(9))"
            )
            await fed.reflect(service)
        fed.sync.add(
            SyncRule(source=fed.tables["raw_near.things"], to="raw_far.things", strategy=CDC(), fields={"size": "size"})
        )
        await run_sql(fed, "raw_near", "INSERT INTO things VALUES (1, 1.5, 'a'), (2, 2, NULL)")

        async def copies() -> list[tuple[Any, ...]]:
            async with fed.session() as session:
                return [tuple(row) for row in await session.execute(fed.tables["raw_far.things"].select())]

        async def are(*wanted: tuple[Any, ...]) -> None:
            async def equal() -> bool:
                return await copies() == list(wanted)

            await until(equal)

        async with fed.sync.running():
            await are((1, Decimal("1.50"), "a"), (2, Decimal(2), None))
            await run_sql(fed, "raw_near", "DELETE FROM things WHERE id = 1", "UPDATE things SET note = 'b'")
            await are((2, Decimal(2), "b"))


async def test_what_is_there_already(urls: dict[str, str], strategy: Any) -> None:
    """A target that is not empty is brought to what it should be: rows that are superfluous go."""
    async with federation(urls, rule(strategy)) as fed:
        await add(fed, PurchaseFact(purchase_id=1, value=Decimal(5)), PurchaseFact(purchase_id=9), Deal(id=1))
        async with fed.sync.running():
            await become(fed, {1: Decimal(1)})
        assert MAPPED == {"id": "purchase_id", "total": "value"}
        assert await facts(fed) == {1: Decimal(1)}
