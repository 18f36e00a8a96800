"""All tables of a service kept in another database, there and back, and the keys that this gives out afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, String, Table, delete, insert, make_url, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation, UnsupportedOperationError
from fedorm.sync import Batch, SyncRuleError, copy_service


class CopiedHerd(FederatedBase):
    __service__, __tablename__ = "herds_here", "herds"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class CopiedSheep(FederatedBase):
    __service__, __tablename__ = "herds_here", "sheep"
    id: Mapped[int] = mapped_column(primary_key=True)
    herd_id: Mapped[int] = mapped_column(ForeignKey("herds.id"))


class CopiedEarmark(FederatedBase):
    __service__, __tablename__ = "herds_here", "earmarks"
    code: Mapped[str] = mapped_column(String(9), primary_key=True)


there = copy_service("herds_here", to="herds_there", strategy=Batch(every=None))
back = copy_service("herds_here", to="herds_yonder", strategy=Batch(every=None), back=True)


def table(service: str, name: str) -> Table:
    return FederatedBase.metadata_of(service).tables[name]


async def put(fed: Federation, service: str, name: str, /, **values: Any) -> int:
    """Insert a row, and return the key that its database has given it."""
    async with fed.session() as session:
        done: Any = await session.execute(insert(table(service, name)).values(**values))
        await session.commit()
        return int(done.inserted_primary_key[0])


async def remove(fed: Federation, service: str, name: str, key: int) -> None:
    async with fed.session() as session:
        await session.execute(delete(one := table(service, name)).where(one.c.id == key))
        await session.commit()


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
@pytest.mark.parametrize(("source", "target"), [("herds_here", "herds_there"), ("herds_yonder", "herds_here")])
async def test_keys_after_a_copy(fresh_database: Callable[[str], str], kind: str, source: str, target: str) -> None:
    """No key is given out there that a row has, nor that of a row that is gone; nor here, on the way back."""
    services = {source: fresh_database("postgresql"), target: fresh_database("postgresql")}
    services[target if source == "herds_here" else source] = fresh_database(kind)
    names = [f"{source}.herds", f"{source}.sheep", f"{source}.earmarks"]
    async with Federation(services) as fed:
        assert list(fed.sync.rules) == names
        await fed.create_all()
        assert [await fed.sync.advance_keys(name) for name in names] == [None, None, None]
        herds = [await put(fed, source, "herds", name=name) for name in ("first", "second", "third")]
        assert herds == [1, 2, 3]
        assert await put(fed, source, "sheep", herd_id=1) == 1
        await remove(fed, source, "herds", 3)
        for name in reversed(names):  # Sheep before their herds, whose keys are looked at for others alone.
            await fed.sync.backfill(name)
            assert (await fed.sync.verify(name)).equal
        assert [await fed.sync.advance_keys(name) for name in names] == [3, 1, None]
        assert await put(fed, target, "herds", name="fourth") == 4
        assert await put(fed, target, "sheep", herd_id=4) == 2
        with pytest.raises(IntegrityError):
            await put(fed, target, "sheep", herd_id=9)
        herd = table(target, "herds")
        async with fed.session() as session:
            found = await session.execute(select(herd.c.id, herd.c.name).order_by(herd.c.id))
            assert [tuple(row) for row in found] == [(1, "first"), (2, "second"), (4, "fourth")]


async def test_who_may_not_write_past_foreign_keys(fresh_database: Callable[[str], str]) -> None:
    """The federation does not open, and a rule fails when it is taken away; both have the statement that mends it."""
    services = {"herds_here": fresh_database("postgresql"), "herds_there": (admin := fresh_database("postgresql"))}

    async def run(*statements: str) -> None:
        async with Federation({"herds_there": admin}) as fed, fed.session() as session:
            for statement in statements:
                await session.execute(text(statement), bind_arguments={"service": "herds_there"})
            await session.commit()

    weak = "GRANT ALL ON SCHEMA public TO herds_mover"
    await run("DROP ROLE IF EXISTS herds_mover", "CREATE ROLE herds_mover LOGIN PASSWORD 's3cret'", weak)
    url = make_url(admin).set(username="herds_mover", password="s3cret").render_as_string(hide_password=False)
    with pytest.raises(SyncRuleError, match=r"'herds_here\.herds': the user herds_mover may not write past") as found:
        await Federation(services | {"herds_there": url}).open()
    _, _, mend = str(found.value).partition("run  ")
    await run(mend := mend.partition(",  ")[0])
    async with Federation(services | {"herds_there": url}) as fed:
        await fed.create_all()
        await put(fed, "herds_here", "herds", name="first")
        await run(mend.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
        with pytest.raises(UnsupportedOperationError, match="herds_mover may not write past foreign keys") as refused:
            await fed.sync.backfill("herds_here.herds")
        assert mend in str(refused.value)
        await run(mend)
        assert (await fed.sync.backfill("herds_here.herds")).written == 1
    await run("DROP OWNED BY herds_mover", "DROP ROLE herds_mover")


def test_a_rule_a_table() -> None:
    """They are called as what they read; the copies are tables of the other service, keys between them included."""
    assert [rule.name for rule in there] == ["herds_here.herds", "herds_here.sheep", "herds_here.earmarks"]
    assert [(rule.source.name, rule.to) for rule in back] == [
        (name, table("herds_here", name)) for name in ("herds", "sheep", "earmarks")
    ]
    (key,) = table("herds_there", "sheep").foreign_keys
    assert key.column is table("herds_there", "herds").c.id


def test_a_service_without_models() -> None:
    """Its models have to be imported before."""
    with pytest.raises(SyncRuleError, match="import the models of 'herds_nowhere' before"):
        copy_service("herds_nowhere", to="herds_here")
