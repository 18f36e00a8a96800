"""Tables that no model declares: read from a server, named and used as those of models are."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import MetaData, case, func, select, text

from fedorm import FederatedBase, Federation, UnknownServiceError, UnknownTableError
from fedorm.catalog import owner_of
from tests.reflecting import Customer, Fresh, ledger, prepared, rows

__all__ = ["ledger"]


async def test_what_is_known_afterwards(ledger: Federation) -> None:
    """Tables, views and materialized views; what a model declares stays the model's."""
    assert set(ledger.tables) == {"ledger.customers"}
    found = await ledger.reflect("ledger")
    assert set(found) == {"kinds", "invoices", "lines", "large", "sums"}
    assert set(ledger.tables) == {"ledger.customers", *(f"ledger.{name}" for name in found)}
    assert len(ledger.tables) == 6
    assert ledger.tables["ledger.customers"] is Customer.__table__
    assert ledger.tables["ledger.lines"] is found["lines"]
    assert owner_of(found["lines"]) == "ledger"
    assert "ledger.nothing" not in ledger.tables
    assert ledger.tables.get("ledger.nothing") is None
    with pytest.raises(TypeError):
        ledger.tables["ledger.new"] = found["lines"]  # type: ignore[index]


async def test_keys(ledger: Federation) -> None:
    """Primary keys of several columns; foreign keys lead to reflected tables, and to a model's own table."""
    found = await ledger.reflect("ledger")
    lines, invoices = found["lines"], found["invoices"]
    assert [column.name for column in lines.primary_key] == ["invoice_id", "number"]
    assert [key.column for key in lines.foreign_keys] == [invoices.c.id]
    assert [key.column for key in invoices.foreign_keys] == [Customer.__table__.c.id]
    joined = select(Customer.name, lines.c.code).join(invoices).join(lines).order_by(lines.c.code)
    joined = select(Customer.name, lines.c.code).select_from(invoices).join(Customer).join(lines)
    assert sorted(await rows(ledger, joined)) == [("ada", "a"), ("ada", "a"), ("ada", "b"), ("bob", "gone")]


async def test_two_reflected_tables_of_two_services(ledger: Federation) -> None:
    """In text, in select(), grouped, and together with a model."""
    await ledger.reflect("ledger")
    await ledger.reflect("parts", only=["parts", "bins"])
    expected = [("ada", Decimal("5.25")), ("bob", None)]
    statement = text(
        "select c.name, sum(p.price) from ledger.customers c join ledger.invoices i on i.customer_id = c.id "
        "join ledger.lines l on l.invoice_id = i.id left join parts.parts p on p.code = l.code "
        "where l.number < :below group by 1 order by 1"
    )
    assert await rows(ledger, statement, below=9) == expected
    lines, parts = ledger.tables["ledger.lines"], ledger.tables["parts.parts"]
    invoices = ledger.tables["ledger.invoices"]
    grouped = (
        select(Customer.name, func.sum(parts.c.price))
        .join(invoices, invoices.c.customer_id == Customer.id)
        .join(lines, lines.c.invoice_id == invoices.c.id)
        .outerjoin(parts, parts.c.code == lines.c.code)
        .group_by(Customer.name)
        .order_by(Customer.name)
    )
    assert await rows(ledger, grouped) == expected
    priced = select(lines.c.code, case((parts.c.price > 2, "dear"), else_="cheap")).join(
        parts, parts.c.code == lines.c.code
    )
    assert sorted(await rows(ledger, priced)) == [("a", "cheap"), ("a", "cheap"), ("b", "dear")]
    bare = text("select count(*) from large, bins")
    assert await rows(ledger, bare) == [(2,)]
    sums = select(ledger.tables["ledger.sums"]).order_by("customer_id")
    assert await rows(ledger, sums) == [
        (1, Decimal("12.25")),
        (2, Decimal("1.00")),
    ]


async def test_writing(ledger: Federation) -> None:
    """A reflected table is a table: it can be written to, in the session's transaction."""
    await ledger.reflect("parts", only=["parts"])
    parts = ledger.tables["parts.parts"]
    async with ledger.session() as session:
        await session.execute(parts.insert(), [{"code": "c", "price": Decimal(9)}])
        assert (await session.execute(select(parts.c.price).where(parts.c.code == "c"))).all() == [(Decimal("9.00"),)]
        await session.rollback()
        assert (await session.execute(select(parts).where(parts.c.code == "c"))).all() == []


async def test_two_federations_do_not_meet(ledger: Federation, fresh_database: Fresh) -> None:
    """What one has reflected another does not know, though the services have one name."""
    await ledger.reflect("ledger")
    async with Federation({"ledger": fresh_database("postgresql"), "parts": fresh_database("mysql")}) as other:
        assert set(other.tables) == {"ledger.customers"}
        with pytest.raises(UnknownTableError, match=r"no service of this federation has a table 'ledger\.lines'"):
            await rows(other, text("select * from ledger.lines, parts.parts"))
        await prepared(other, "ledger", "CREATE TABLE lines (other integer)")
        await other.reflect("ledger")
        assert [column.name for column in other.tables["ledger.lines"].columns] == ["other"]
    assert len(ledger.tables["ledger.lines"].columns) == 3
    assert "lines" not in FederatedBase.metadata_of("ledger").tables


async def test_what_is_not_there(ledger: Federation) -> None:
    """Names that are wrong are answered with the nearest ones, and nothing is kept."""
    with pytest.raises(UnknownServiceError, match="ledgr"):
        await ledger.reflect("ledgr")
    with pytest.raises(UnknownTableError, match=r"'ledger\.invoice': did you mean ledger\.invoices"):
        await ledger.reflect("ledger", only=["kinds", "invoice"])
    assert set(ledger.tables) == {"ledger.customers"}
    assert await ledger.reflect("ledger", only=["customers"]) == {}
    with pytest.raises(KeyError, match=r"did you mean ledger\.customers"):
        ledger.tables["ledger.customer"]
    with pytest.raises(UnknownTableError, match=r"did you mean ledger\.customers"):
        ledger.tables["customers"]


async def test_reflecting_again(ledger: Federation) -> None:
    """A second reading finds what has changed since."""
    await ledger.reflect("ledger", only=["lines"])
    await ledger.reflect("parts", only=["parts"])
    await prepared(ledger, "ledger", "ALTER TABLE lines ADD COLUMN added integer DEFAULT 4")
    again = await ledger.reflect("ledger", only=["lines"])
    assert "added" in again["lines"].c
    assert ledger.tables["ledger.lines"] is again["lines"]
    assert await rows(ledger, text("select distinct added from ledger.lines, parts.parts where false")) == []
    await ledger.reflect("ledger", only=["invoices"])
    assert {"ledger.lines", "ledger.invoices", "parts.parts"} <= set(ledger.tables)
    await prepared(ledger, "ledger", "DROP TABLE lines")
    await ledger.reflect("ledger")
    assert "ledger.lines" not in ledger.tables
    assert {"ledger.invoices", "parts.parts"} <= set(ledger.tables)


async def test_no_plan_is_older_than_a_reflection(ledger: Federation) -> None:
    """A statement that was planned before is planned anew when its tables have been read again."""
    await ledger.reflect("ledger", only=["lines"])
    await ledger.reflect("parts", only=["parts"])
    statement = text("select l.* from ledger.lines l join parts.parts p on p.code = l.code where l.code = 'b'")
    assert await rows(ledger, statement) == [(10, 2, "b")]
    await prepared(ledger, "ledger", "ALTER TABLE lines ADD COLUMN added integer DEFAULT 4")
    await ledger.reflect("ledger", only=["lines"])
    assert await rows(ledger, statement) == [(10, 2, "b", 4)]


def test_without_async(fresh_database: Fresh) -> None:
    """The same in code that is not async, documents included."""
    with Federation({"ledger": fresh_database("postgresql"), "warehouse": fresh_database("mongodb")}) as fed:
        with fed.sync_session() as session:
            session.execute(text("CREATE TABLE lines (n integer, code text)"), bind_arguments={"service": "ledger"})
            session.execute(text("INSERT INTO lines VALUES (1, 'a')"), bind_arguments={"service": "ledger"})
            session.commit()
        assert set(fed.sync_reflect("ledger")) == {"lines"}
        assert fed.sync_reflect("warehouse") == {}
        lines = fed.tables["ledger.lines"]
        with fed.sync_session() as session:
            assert [tuple(row) for row in session.execute(select(lines))] == [(1, "a")]


def test_a_table_of_nobody() -> None:
    """Reading leaves the models' MetaData as it was."""
    assert "kinds" not in FederatedBase.metadata_of("ledger").tables
    assert isinstance(FederatedBase.metadata_of("ledger"), MetaData)
