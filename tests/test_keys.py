"""Keys of two types are made equal or refused; they are never silently unequal."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import Any

import pytest
from beanie import PydanticObjectId
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import String, insert, select
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import (
    Federated,
    FederatedBase,
    FederatedDocument,
    Federation,
    KeyTypeError,
    federated_load,
    federated_relationship,
)
from fedorm.keys import converter

UUID_1 = uuid.UUID("0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b")
OBJECT_1 = ObjectId("0123456789abcdef01234567")


@pytest.mark.parametrize(
    ("source", "target", "value", "expected"),
    [
        (int, str, 7, "7"),
        (str, int, "7", 7),
        (str, int, "-7", -7),
        (uuid.UUID, str, UUID_1, str(UUID_1)),
        (str, uuid.UUID, str(UUID_1), UUID_1),
        (ObjectId, str, OBJECT_1, "0123456789abcdef01234567"),
        (str, ObjectId, "0123456789abcdef01234567", OBJECT_1),
        (str, PydanticObjectId, "0123456789abcdef01234567", OBJECT_1),
    ],
)
def test_types_that_have_a_canonical_form(source: Any, target: Any, value: Any, expected: Any) -> None:
    """A key's value is turned into the other side's type."""
    convert = converter(source, target, what="A.b")
    assert convert is not None
    assert convert(value) == expected
    assert type(convert(value)) in (target, *target.__mro__)


@pytest.mark.parametrize(
    ("source", "target"),
    [(int, int), (str, str), (int, Decimal), (None, int), (str, None), (ObjectId, PydanticObjectId)],
)
def test_types_that_compare_as_they_are(source: Any, target: Any) -> None:
    """Nothing is converted where the values are equal by themselves."""
    assert converter(source, target, what="A.b") is None


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (int, uuid.UUID),
        (bool, int),
        (int, bool),
        (float, str),
        (bytes, str),
        (str, datetime.date),
        (datetime.date, datetime.datetime),
        (datetime.datetime, datetime.date),
        (uuid.UUID, ObjectId),
        (Decimal, str),
    ],
)
def test_types_that_can_never_be_equal(source: Any, target: Any) -> None:
    """The declaration is refused, with both types named."""
    with pytest.raises(KeyTypeError, match=f"A.b.*{source.__name__}.*{target.__name__}"):
        converter(source, target, what="A.b")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (int, "007"),
        (int, " 7"),
        (int, "seven"),
        (int, "1_000"),
        (uuid.UUID, str(UUID_1).upper()),
        (uuid.UUID, UUID_1.hex),
        (ObjectId, "0123456789ABCDEF01234567"),
        (ObjectId, "short"),
    ],
)
def test_text_in_another_spelling_is_refused(target: Any, text: str) -> None:
    """Two spellings of one key would join in one database and not in another."""
    convert = converter(str, target, what="A.b")
    assert convert is not None
    with pytest.raises(Exception, match=r".+"):
        convert(text)


@given(st.integers() | st.uuids())
def test_there_and_back(value: int | uuid.UUID) -> None:
    """Every int and every UUID survives the way through text."""
    there, back = converter(type(value), str, what="A.b"), converter(str, type(value), what="A.b")
    assert there is not None
    assert back is not None
    assert back(there(value)) == value


class Holder(FederatedBase):
    """Refers to others by text where they have an int, a UUID and an ObjectId."""

    __service__ = "holders"
    __tablename__ = "holders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str | None]
    token: Mapped[str | None]
    page: Mapped[str | None]
    by_number: Federated[Held] = federated_relationship(local_key="number")
    by_token: Federated[Held] = federated_relationship(local_key="token", remote_key="token")
    by_page: Federated[Page] = federated_relationship(local_key="page")
    marked: Federated[list[Held]] = federated_relationship(
        secondary="Mark", secondary_local="token", secondary_remote="held_id", local_key="token"
    )


class Held(FederatedBase):
    __service__ = "held"
    __tablename__ = "held"
    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[uuid.UUID]
    holders: Federated[list[Holder]] = federated_relationship(remote_key="number", order_by="id")


class Mark(FederatedBase):
    """An association that has a class, and is named before that is there."""

    __service__ = "held"
    __tablename__ = "marks"
    token: Mapped[str] = mapped_column(String(50), primary_key=True)
    held_id: Mapped[int] = mapped_column(primary_key=True)


class Page(FederatedDocument):
    __service__ = "pages"
    title: str
    holders: Federated[list[Holder]] = federated_relationship(remote_key="page", order_by="id")


@pytest.fixture
async def held(fresh_database: Any) -> Any:
    services = {
        "holders": fresh_database("postgresql"),
        "held": fresh_database("mysql"),
        "pages": fresh_database("mongodb"),
    }
    async with Federation(services) as fed:
        await fed.create_all()
        async with fed.session() as session:
            page = Page(id=PydanticObjectId(OBJECT_1), title="first")
            session.add_all([page, Held(id=5, token=UUID_1)])
            session.add(Holder(id=1, number="5", token=str(UUID_1), page=str(OBJECT_1)))
            session.add(Holder(id=2, number="6", token=None, page=None))
            await session.commit()
        yield fed


async def test_keys_of_other_types_over_real_servers(held: Federation) -> None:
    """Text finds an int, a UUID and an ObjectId in another database, and these find the text."""
    async with held.session() as session:
        paths = [federated_load(path) for path in (Holder.by_number, Holder.by_token, Holder.by_page)]
        holders = (await session.scalars(select(Holder).order_by(Holder.id).options(*paths))).all()
        assert [one.by_number and one.by_number.id for one in holders] == [5, None]
        assert [one.by_token and one.by_token.token for one in holders] == [UUID_1, None]
        assert [one.by_page and one.by_page.title for one in holders] == ["first", None]
        found = (await session.scalars(select(Held).options(federated_load(Held.holders)))).one()
        assert found.holders == [holders[0]]
        page = await session.find(Page).options(federated_load(Page.holders)).first_or_none()
        assert page.holders == [holders[0]]


async def test_assigning_a_target_writes_its_key_in_the_sides_own_type(held: Federation) -> None:
    """An ObjectId becomes the text that the column holds."""
    async with held.session() as session:
        holder, page = await session.get(Holder, 2), await session.find(Page).first_or_none()
        assert holder is not None
        holder.by_page = page
        assert holder.page == str(OBJECT_1)
        holder.by_number = await session.get(Held, 5)
        assert holder.number == "5"
        await session.commit()


async def test_a_key_that_has_no_equal_is_an_error(held: Federation) -> None:
    """A row that holds another spelling is named instead of loading as None."""
    async with held.session() as session:
        session.add(Holder(id=3, number="005"))
        await session.commit()
        with pytest.raises(KeyTypeError, match=r"Holder.by_number.*'005'"):
            await session.scalars(select(Holder).options(federated_load(Holder.by_number)))


async def test_collations_that_ignore_case_join_nothing_more(held: Federation) -> None:
    """MariaDB finds 'ABC' when it is asked for 'abc'; the join is exact all the same."""
    async with held.session() as session:
        session.add_all([Holder(id=10, token="abc"), Holder(id=11, token="ABC "), Holder(id=12, token="ABC")])
        await session.execute(insert(Mark), [{"token": "ABC", "held_id": 5}])
        wanted = select(Holder).where(Holder.id >= 10).order_by(Holder.id).options(federated_load(Holder.marked))
        holders = (await session.scalars(wanted)).all()
        assert [[one.id for one in holder.marked] for holder in holders] == [[], [], [5]]
