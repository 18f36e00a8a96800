"""Joins and conditions by keys of two types, and of classes of a hierarchy."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, aliased, mapped_column

from fedorm import Federated, FederatedBase, Federation, UnsupportedQueryError, federated_relationship
from tests.models import Supplier
from tests.query.joined import Good, Note, Shelf, ids, rows


async def test_keys_of_two_types(fed: Federation) -> None:
    """A number equals its text, in its canonical form alone, as when the relationship is loaded."""
    async with fed.session() as db:
        db.add_all([Shelf(id=1, label="x", good_code="7"), Shelf(id=2, label="y", good_code="8")])
        db.add_all([Note(id=1, shelf="1"), Note(id=2, shelf="2"), Note(id=3, shelf="01")])
        db.add_all([Good(code=7, price=2.0), Good(code=8, price=9.0)])
        await db.flush()
        joined = select(Note.id, Shelf.label).outerjoin(Note.of).order_by(Note.id)
        assert await rows(db, joined) == [(1, "x"), (2, "y"), (3, None)]
        back = select(Shelf.label, Note.id).join(Shelf.notes).order_by(Note.id)
        assert await rows(db, back) == [("x", 1), ("y", 2)]
        assert await rows(db, select(Shelf.id, Good.c.price).join(Shelf.good).order_by(Shelf.id)) == [
            (1, 2.0),
            (2, 9.0),
        ]
        assert await ids(db, select(Shelf).where(Shelf.good.has(Good.c.price > 5))) == [2]
        assert await rows(db, select(Shelf.id, Good.c.code).join(Shelf.dear)) == [(2, 8)]
        assert await ids(db, select(Note).where(Note.of == await db.get_one(Shelf, 2))) == [2]
        assert await ids(db, select(Shelf).where(Shelf.notes.contains(await db.get_one(Note, 1)))) == [1]


class Account(FederatedBase):
    __service__ = "users"
    __tablename__ = "accounts"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    visits: Federated[list[Visit]] = federated_relationship(remote_key="account")
    parent_text: Mapped[str | None]
    parent: Federated[Account] = federated_relationship(local_key="parent_text")


class Visit(FederatedBase):
    __service__ = "payments"
    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(String(50))
    supplier_text: Mapped[str] = mapped_column(String(50))
    token: Mapped[UUID | None]
    by: Federated[Account] = federated_relationship(local_key="account")
    supplier: Federated[Supplier] = federated_relationship(local_key="supplier_text")
    same: Federated[Visit] = federated_relationship(local_key="account", remote_key="token")


async def test_texts_of_uuids_and_object_ids(fed: Federation) -> None:
    """A UUID equals its canonical text, and an ObjectId its digits."""
    one, two = UUID(int=0xABC), UUID(int=2)
    async with fed.session() as db:
        supplier = Supplier(name="acme")
        db.add_all([Account(id=one), Account(id=two, parent_text=str(one)), supplier])
        await db.flush()
        db.add(Visit(id=1, account=str(one), supplier_text=str(supplier.id)))
        db.add(Visit(id=2, account=str(one).upper(), supplier_text="none"))
        await db.flush()
        assert await rows(db, select(Visit.id, Account.id).outerjoin(Visit.by).order_by(Visit.id)) == [
            (1, one),
            (2, None),
        ]
        assert await ids(db, select(Account).where(Account.visits.any())) == [one]
        assert await rows(db, select(Visit.id, Supplier.c.name).join(Visit.supplier)) == [(1, "acme")]
        assert await ids(db, select(Account).where(Account.parent.has())) == [two]
        with pytest.raises(UnsupportedQueryError, match="keeps no canonical text of a UUID"):
            await db.execute(select(Visit).where(Visit.same.has()))


class Office(FederatedBase):
    __service__ = "users"
    __tablename__ = "offices"
    id: Mapped[int] = mapped_column(primary_key=True)
    people: Federated[list[Person]] = federated_relationship(remote_key="office_id")
    managers: Federated[list[Manager]] = federated_relationship(remote_key="office_id")
    guests: Federated[list[Guest]] = federated_relationship(remote_key="office_id")


class Person(FederatedBase):
    """A hierarchy over two tables; some of its classes have none of their own."""

    __service__ = "orders"
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    office_id: Mapped[int]
    office: Federated[Office] = federated_relationship(local_key="office_id")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Manager(Person):
    __service__ = "orders"
    __tablename__ = "managers"
    id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    grade: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "manager"}


class Guest(Person):
    __service__ = "orders"
    __mapper_args__ = {"polymorphic_identity": "guest"}


async def test_hierarchies(fed: Federation) -> None:
    """A class of a hierarchy joins its own rows alone, from either side, whether it has a table or not."""
    async with fed.session() as db:
        db.add_all([Office(id=1), Office(id=2), Office(id=3)])
        db.add_all([Manager(id=1, office_id=1, grade=5), Manager(id=2, office_id=2, grade=1), Guest(id=3, office_id=2)])
        await db.flush()
        assert await ids(db, select(Office).join(Office.people)) == [1, 2]
        assert await ids(db, select(Office).join(Office.managers).where(Manager.grade > 3)) == [1]
        assert await ids(db, select(Office).join(Office.guests)) == [2]
        outer = select(Office.id, Manager.grade).outerjoin(Office.managers).order_by(Office.id)
        assert await rows(db, outer) == [(1, 5), (2, 1), (3, None)]
        assert await rows(db, outer.where(Manager.id.is_(None))) == [(3, None)]
        assert await ids(db, select(Office).where(Office.managers.any(Manager.grade > 3))) == [1]
        assert await ids(db, select(Office).where(~Office.guests.any())) == [1, 3]
        assert await ids(db, select(Office).where(Office.people.of_type(Manager).any(Manager.grade < 3))) == [2]
        assert await ids(db, select(Manager).join(Manager.office).where(Office.id == 2)) == [2]
        assert await ids(db, select(Guest).where(Guest.office.has(id=2))) == [3]
        manager = aliased(Manager)
        assert await ids(db, select(manager).join(manager.office).where(manager.grade > 3)) == [1]
        joined = select(Office.id, manager.grade).join(Office.people.of_type(manager)).order_by(Office.id)
        assert await rows(db, joined) == [(1, 5), (2, 1)]
