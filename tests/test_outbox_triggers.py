"""Events that triggers write: the same as the session's, whoever changes the rows."""

from __future__ import annotations

import datetime
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import ForeignKey, String, delete, func, insert, select, text, update
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import AsyncFederatedSession, FederatedBase, Federation
from fedorm.bookkeeping import ensure
from fedorm.exc import OutboxRuleError
from fedorm.outbox import OutboxRule
from fedorm.outbox.rules import CHANGES
from fedorm.outbox.tables import fedorm_outbox
from fedorm.outbox.triggers import make_triggers
from fedorm.outbox.triggers.captures import captures
from fedorm.stores.sql import SQLStore
from tests.triggered import (
    OTHER,
    SERVICE,
    UTC,
    BySession,
    ByTriggers,
    LineBySession,
    LineByTriggers,
    Part,
    TwiceTold,
    full,
)

KINDS = ["postgresql", "mysql", "sqlite"]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, fresh_database: Callable[[str], str], tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'service.db'}"
    return fresh_database(request.param)


@pytest.fixture
async def fed(url: str, no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation({SERVICE: url}) as federation:
        await federation.create_all()
        yield federation


async def plain(session: AsyncFederatedSession, sql: str) -> None:
    """Run what SQLAlchemy knows nothing of."""
    await session.execute(text(sql), bind_arguments={"service": SERVICE})


async def events(session: AsyncFederatedSession) -> list[tuple[str, str, Any]]:
    """Type, key and data of all events, in order; then they are gone."""
    outbox = fedorm_outbox(SERVICE)
    rows = (await session.execute(select(outbox).order_by(outbox.c.position))).all()
    assert len({row.id for row in rows}) == len(rows)
    assert all(str(UUID(row.id)) == row.id for row in rows)
    await session.execute(delete(outbox))
    return [(row.type, row.key, row.data) for row in rows]


async def test_events_equal_the_sessions(fed: Federation) -> None:
    """New, changed and deleted rows of all types make the events that the session would write, value for value."""
    told = []
    for model in (BySession, ByTriggers):
        async with fed.session() as session:
            session.add_all([model(id=1, **full()), model(id=2), model(id=3, **OTHER)])
            await session.commit()
            for size in range(4):
                session.add(model(id=10 + size, raw=bytes(range(250, 250 + size))))
            await session.commit()
            one, none = await session.get_one(model, 1), await session.get_one(model, 2)
            for name, value in OTHER.items():
                setattr(one, name, value)
            await session.flush()
            for name, value in full(label="b").items():
                setattr(none, name, value)
            await session.flush()
            none.label = "B"
            await session.flush()
            await session.delete(one)
            await session.commit()
            told.append(await events(session))
            await session.commit()
    by_session, by_triggers = told
    assert len(by_session) == 11
    assert by_triggers == by_session


async def test_events_of_rules_equal_the_sessions(fed: Federation) -> None:
    """Several rules for a table, keys of several columns and of one that is not set, rows that get another key."""
    told = []
    for model in (LineBySession, LineByTriggers):
        async with fed.session() as session:
            session.add_all([model(order='é"', number=1, sku="a", amount=1), model(order="", number=2, amount=2)])
            await session.commit()
            first, second = (await session.scalars(select(model).order_by(model.number))).all()
            first.sku, second.amount = "b", 3
            await session.flush()
            first.sku = None
            await session.flush()
            first.number = 7
            await session.flush()
            await session.delete(second)
            await session.commit()
            told.append(sorted(await events(session), key=str))
            await session.commit()
    by_session, by_triggers = told
    assert {kind for kind, _, _ in by_session} == {"line.inserted", "line.updated", "line.deleted", "sku.updated"}
    assert by_triggers == by_session


async def test_whoever_writes_writes_one_event(fed: Federation) -> None:
    """Objects, Core and plain SQL in one transaction: an event a change, those of a row in their order, none twice."""
    async with fed.session() as session:
        session.add(Part(id=1, name="object"))
        await session.execute(insert(Part), [{"id": 2, "name": "Core"}, {"id": 3, "name": "Core"}])
        await plain(session, "insert into parts (id, name) select id + 2, name from parts where id = 2")
        (await session.get_one(Part, 1)).name = "changed"
        await session.execute(update(Part).where(Part.id < 3).values(name=func.upper(Part.name)))
        await plain(session, "delete from parts where id = 3")
        await session.commit()

        def told(change: str, key: int, name: str, was: str | None = None) -> tuple[str, str, Any]:
            changed = {} if was is None else {"changed": {"name": [was, name]}}
            values = {"id": key, "name": name, "whole_id": None}
            return (f"trigger_shop.parts.{change}", str(key), {"key": {"id": key}, "values": values} | changed)

        assert sorted(await events(session), key=lambda event: event[1]) == [
            told("inserted", 1, "object"),
            told("updated", 1, "changed", was="object"),
            told("updated", 1, "CHANGED", was="changed"),
            told("inserted", 2, "Core"),
            told("updated", 2, "CORE", was="Core"),
            told("inserted", 3, "Core"),
            told("deleted", 3, "Core"),
            told("inserted", 4, "Core"),
        ]
        await session.commit()


async def test_each_rule_is_carried_out_by_one(fed: Federation) -> None:
    """A model may have rules of both kinds: the session writes the events of the one, triggers those of the other."""
    async with fed.session() as session:
        session.add(TwiceTold(id=1))
        await session.execute(insert(TwiceTold).values(id=2))
        await session.commit()
        assert sorted((key, kind) for kind, key, _ in await events(session)) == [
            ("1", "session.inserted"), ("1", "triggers.inserted"), ("2", "triggers.inserted")
        ]  # fmt: skip
        await session.commit()


async def test_no_event_without_a_change(fed: Federation) -> None:
    """An update that sets what is there is none, whatever the type; nor is what was rolled back, or a savepoint."""
    async with fed.session() as session:
        session.add_all([ByTriggers(id=1, **full()), ByTriggers(id=2), Part(id=1, name="a")])
        await session.commit()
        await events(session)
        await session.commit()
        for id_, values in ((1, full()), (2, dict.fromkeys(full()))):
            await session.execute(update(ByTriggers).where(ByTriggers.id == id_).values(**values))
        await session.commit()
        await session.execute(update(Part).values(name="b"))
        await session.rollback()
        async with session.begin_nested() as savepoint:
            await session.execute(update(Part).values(name="c"))
            await savepoint.rollback()
        await session.commit()
        assert await events(session) == []
        await session.commit()


async def test_floats_that_json_has_no_number_for(fresh_database: Callable[[str], str]) -> None:
    """In PostgreSQL, which has them, they are texts; dates at the ends of the calendar, held as infinity, are dates."""
    odd = {"ratio": math.nan, "day": datetime.date.max, "local": datetime.datetime.min}
    odd["at"] = datetime.datetime.max.replace(tzinfo=UTC)
    told = []
    async with Federation({SERVICE: fresh_database("postgresql")}) as fed:
        await fed.create_all()
        for model in (BySession, ByTriggers):
            async with fed.session() as session:
                session.add_all([model(id=1, **full(**odd)), model(id=2, ratio=math.inf), model(id=3, ratio=-math.inf)])
                await session.commit()
                told.append(await events(session))
                await session.commit()
    assert told[1] == told[0]
    assert [data["values"]["ratio"] for _, _, data in told[1]] == ["NaN", "Infinity", "-Infinity"]
    assert told[1][0][2]["values"]["at"] == "9999-12-31T23:59:59.999999+00:00"


async def test_rows_that_go_with_another(fed: Federation, url: str) -> None:
    """ON DELETE CASCADE runs triggers, too; not in MySQL and MariaDB, whose servers leave them out."""
    async with fed.session() as session:
        await session.execute(insert(Part).values(id=1, name="whole"))
        await session.execute(insert(Part).values(id=2, name="part", whole_id=1))
        await events(session)
        await session.execute(delete(Part).where(Part.id == 1))
        gone = sorted(key for _, key, _ in await events(session))
        await session.commit()
    assert gone == (["1"] if url.startswith("mysql") else ["1", "2"])


@pytest.mark.parametrize("kind", KINDS)
def test_without_async(kind: str, fresh_database: Callable[[str], str], tmp_path: Path) -> None:
    """Triggers that other drivers make, which send statements in other ways, write the same."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'service.db'}" if kind == "sqlite" else fresh_database(kind)
    outbox = fedorm_outbox(SERVICE)
    with Federation({SERVICE: url}) as fed:
        store = fed.stores[SERVICE]
        assert isinstance(store, SQLStore)
        FederatedBase.metadata_of(SERVICE).create_all(store.sync_engine)
        ensure(store.sync_engine, outbox)
        make_triggers(store.sync_engine, SERVICE)
        told = []
        for model in (BySession, ByTriggers):
            with fed.sync_session() as session:
                session.add(model(id=1, **full()))
                session.commit()
                told.append([(row.type, row.key, row.data) for row in session.execute(select(outbox))])
                session.execute(delete(outbox))
                session.commit()
    assert len(told[0]) == 1
    assert told[1] == told[0]


async def test_changes_need_the_triggers(url: str) -> None:
    """An object whose events triggers would write is not flushed where these are not there: no event gets lost."""
    async with Federation({SERVICE: url}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            await plain(session, f"drop trigger fedorm_outbox_parts_update{' on parts' * ('postgres' in url)}")
            await session.commit()
            session.add(Part(id=1, name="a"))
            with pytest.raises(OutboxRuleError) as refused:
                await session.flush()
            await session.rollback()
        assert "Part.__outbox__" in str(refused.value)
        assert "fedorm_outbox_parts_update" in str(refused.value)
        await fed.create_all()
        async with fed.session() as session:
            session.add(Part(id=1, name="a"))
            await session.commit()
            assert [kind for kind, _, _ in await events(session)] == ["trigger_shop.parts.inserted"]
            await session.commit()


class Animal(FederatedBase):
    __service__, __tablename__ = "trigger_zoo", "animals"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
    __outbox__ = OutboxRule(by="triggers")
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))


class Bird(Animal):
    __mapper_args__ = {"polymorphic_identity": "bird"}
    wings: Mapped[int | None]


def test_classes_in_one_table() -> None:
    """Their rows have the columns of all of them, as triggers see the table and not the class."""
    ((table, (capture,)),) = captures("trigger_zoo").items()
    assert table is Animal.__table__
    assert [column.key for column in capture.values] == ["id", "kind", "wings"]
    assert capture.types == {one: f"trigger_zoo.animals.{one}{'d' if one[-1] == 'e' else 'ed'}" for one in CHANGES}


def declare_joined(service: str) -> None:
    class Joined(FederatedBase):
        __service__, __tablename__ = service, "joined"
        __outbox__ = OutboxRule(by="triggers")
        id: Mapped[int] = mapped_column(primary_key=True)

    class JoinedPart(Joined):
        __tablename__ = "joined_part"
        id: Mapped[int] = mapped_column(ForeignKey("joined.id"), primary_key=True)


def declare_of_one_class(service: str) -> None:
    class OneOfTwo(FederatedBase):
        __service__, __tablename__ = service, "two"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "one"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    class OtherOfTwo(OneOfTwo):
        __mapper_args__ = {"polymorphic_identity": "other"}
        __outbox__ = OutboxRule(by="triggers")


def declare_named_by_class(service: str) -> None:
    class NamedByClass(FederatedBase):
        __service__, __tablename__ = service, "named"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "one"}
        __outbox__ = OutboxRule(type="{model}.{event}", by="triggers")
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    class AlsoNamedByClass(NamedByClass):
        __mapper_args__ = {"polymorphic_identity": "other"}


@pytest.mark.parametrize(
    ("declare", "reason"),
    [
        (declare_joined, "JoinedPart.__outbox__: triggers see the rows of one table"),
        (declare_of_one_class, "OtherOfTwo.__outbox__: triggers see the rows of all classes"),
        (declare_named_by_class, "NamedByClass.__outbox__: triggers do not know of which class"),
    ],
)
def test_what_triggers_cannot_see_is_refused(declare: Callable[[str], None], reason: str) -> None:
    service = f"trigger_{declare.__name__}"
    declare(service)
    with pytest.raises(OutboxRuleError) as refused:
        captures(service)
    assert str(refused.value).startswith(reason)
    assert "by='session'" in str(refused.value) or "{model}" in str(refused.value)
