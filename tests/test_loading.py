"""Loading where it is not plain: hierarchies, mixins, expired parents, streams, lists, both sides of a relationship."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from beanie import PydanticObjectId
from pydantic import Field
from sqlalchemy import Engine, ForeignKey, String, event, insert, select, text, update
from sqlalchemy.orm import Mapped, aliased, joinedload, load_only, mapped_column, relationship

from fedorm import (
    AsyncFederatedSession,
    Federated,
    FederatedBase,
    FederatedDocument,
    Federation,
    RelationshipError,
    federated_load,
    federated_relationship,
)


class Person(FederatedBase):
    __service__ = "people"
    __tablename__ = "persons"
    id: Mapped[int] = mapped_column("person_no", primary_key=True)
    name: Mapped[str]
    pets: Federated[list[Pet]] = federated_relationship(remote_key="owner_id", order_by="id", back_populates="owner")
    badge: Federated[Badge] = federated_relationship(
        remote_key="person_id", order_by="-id", back_populates="person", uselist=False
    )
    house_id: Mapped[int | None]
    house: Federated[House] = federated_relationship(local_key="house_id")
    dog: Federated[Dog] = federated_relationship(local_key="house_id")
    letters: Federated[list[Letter]] = federated_relationship(remote_key="to", order_by=lambda letter: -letter.weight)


class Owned:
    """A mixin with a relationship."""

    owner_id: Mapped[int | None]
    owner: Federated[Person] = federated_relationship(local_key="owner_id", back_populates="pets")


class Pet(Owned, FederatedBase):
    __service__ = "pets"
    __tablename__ = "pets"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "pet"}
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(9))
    house_id: Mapped[int | None] = mapped_column(ForeignKey("houses.id"))


class Dog(Pet):
    """In the same table."""

    __mapper_args__ = {"polymorphic_identity": "dog"}
    vet_id: Mapped[int | None]
    vet: Federated[Person] = federated_relationship(local_key="vet_id")


class Horse(Pet):
    """In a table of its own."""

    __tablename__ = "horses"
    __mapper_args__ = {"polymorphic_identity": "horse"}
    id: Mapped[int] = mapped_column(ForeignKey("pets.id"), primary_key=True)
    rider_id: Mapped[int | None]
    rider: Federated[Person] = federated_relationship(local_key="rider_id")


class House(FederatedBase):
    __service__ = "pets"
    __tablename__ = "houses"
    id: Mapped[int] = mapped_column(primary_key=True)
    pets: Mapped[list[Pet]] = relationship(order_by="Pet.id")


class Placed(FederatedBase):
    """An abstract base with a relationship."""

    __abstract__ = True
    person_id: Mapped[int | None]
    person: Federated[Person] = federated_relationship(local_key="person_id")


class Badge(Placed):
    __service__ = "shops"
    __tablename__ = "badges"
    id: Mapped[int] = mapped_column(primary_key=True)
    shop_id: Mapped[int | None] = mapped_column(ForeignKey("shops.id"))
    shop: Mapped[Shop | None] = relationship()
    twin_id: Mapped[int | None]
    twin: Federated[Badge] = federated_relationship(local_key="twin_id")


class Shop(Placed):
    __service__ = "shops"
    __tablename__ = "shops"
    id: Mapped[int] = mapped_column(primary_key=True)


class Written(FederatedDocument):
    """An abstract document with a relationship."""

    __abstract__ = True
    to: int
    receiver: Federated[Person] = federated_relationship(local_key="to")


class Letter(Written):
    __service__ = "post"
    to: Annotated[int, Field(alias="addressee")]
    weight: int = 0

    class Settings:
        name = "letters"


class Card(Written):
    __service__ = "post"

    class Settings:
        name = "cards"


@pytest.fixture
async def town(fresh_database: Callable[[str], str], no_stray_tasks: None) -> Any:
    kinds = {"people": "postgresql", "pets": "postgresql", "shops": "mysql", "post": "mongodb"}
    async with Federation({name: fresh_database(kind) for name, kind in kinds.items()}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all([Person(id=n, name=f"p{n}", house_id=10) for n in (1, 2, 3)])
            session.add(House(id=10))
            session.add_all([Dog(id=1, owner_id=1, vet_id=2, house_id=10), Pet(id=2, owner_id=1, house_id=10)])
            session.add_all([Horse(id=3, owner_id=2, rider_id=3, house_id=10), Pet(id=4, owner_id=None)])
            session.add_all([Letter(addressee=1, weight=1), Letter(addressee=1, weight=5), Card(to=2)])
            await session.commit()
        yield fed


@pytest.fixture
async def session(town: Federation) -> Any:
    async with town.session() as opened:
        yield opened


@pytest.fixture
def selects(town: Federation) -> Iterator[list[str]]:
    """The tables that statements were sent for."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "FROM " in statement:
            sent.append(statement.partition("FROM ")[2].split()[0])

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)


async def pets_of(session: AsyncFederatedSession, *options: Any) -> Any:
    return (await session.scalars(select(Pet).order_by(Pet.id).options(*options))).all()


# -- classes ---------------------------------------------------------------------------------------


async def test_relationships_of_mixins_and_abstract_bases(session: AsyncFederatedSession) -> None:
    """Each model that inherits one has it for itself."""
    session.add_all([Badge(id=1, person_id=1), Shop(id=1, person_id=2)])
    await session.commit()
    assert [pet.owner and pet.owner.id for pet in await pets_of(session, federated_load(Pet.owner))] == [1, 1, 2, None]
    badge = (await session.scalars(select(Badge).options(federated_load(Badge.person)))).one()
    shop = (await session.scalars(select(Shop).options(federated_load(Shop.person)))).one()
    assert (badge.person.id, shop.person.id) == (1, 2)
    letters = await session.find(Letter).options(federated_load(Letter.receiver)).to_list()
    cards = await session.find(Card).options(federated_load(Card.receiver)).to_list()
    assert [one.receiver.id for one in (*letters, *cards)] == [1, 1, 2]


async def test_relationships_of_subclasses(session: AsyncFederatedSession) -> None:
    """They are loaded for the instances that have them: from the class above, below an ordinary step, and lazily."""
    pets = await pets_of(session, federated_load(Dog.vet), federated_load(Horse.rider))
    assert (pets[0].vet.id, pets[2].rider.id) == (2, 3)
    session.expunge_all()
    path = federated_load(House.pets, Dog.vet), federated_load(House.pets, Horse.rider)
    house = (await session.scalars(select(House).options(*path))).one()
    assert (house.pets[0].vet.id, house.pets[2].rider.id) == (2, 3)
    session.expunge_all()
    people = (await session.scalars(select(Person).options(federated_load(Person.house, House.pets, Dog.vet)))).all()
    assert people[0].house.pets[0].vet is people[1]
    session.expunge_all()
    pets = await pets_of(session)
    assert [(await pet.awaitable_attrs.owner).id for pet in pets[:3]] == [1, 1, 2]
    assert (await pets[2].awaitable_attrs.rider).id == 3


async def test_a_subclass_as_the_target(session: AsyncFederatedSession) -> None:
    """A key that belongs to another class of the table finds nothing, also if the session has that instance."""
    for person, house in ((1, 1), (2, 2), (3, 404)):
        (await session.get_one(Person, person)).house_id = house
    await session.commit()
    for _ in range(2):
        people = (await session.scalars(select(Person).order_by(Person.id).options(federated_load(Person.dog)))).all()
        assert [person.dog and person.dog.id for person in people] == [1, None, None]
        await pets_of(session)


async def test_rows_without_an_instance(session: AsyncFederatedSession) -> None:
    """An outer join's None is passed over, wherever it stands."""
    for order in (Person.id, Person.id.desc()):
        joined = select(Dog).select_from(House).outerjoin(Dog, (Dog.house_id == House.id) & (Dog.id == 404))
        statement = joined.options(federated_load(Dog.owner))
        assert (await session.scalars(statement)).all() == [None]
        pairs = select(Person).order_by(order).options(federated_load(Person.house))
        assert [person.house.id for person in await session.scalars(pairs)] == [10, 10, 10]
    one = aliased(Pet)
    found = (
        select(one).select_from(House).outerjoin(one, one.house_id == House.id).order_by(one.id.desc().nulls_first())
    )
    assert [pet and pet.owner.id for pet in await session.scalars(found.options(federated_load(Pet.owner)))] == [
        2,
        1,
        1,
    ]


async def test_statements_of_every_kind(session: AsyncFederatedSession) -> None:
    """Aliases, limits, joined loading, from_statement and RETURNING."""
    one, owner = aliased(Pet), federated_load(Pet.owner)
    for statement in (
        select(one).order_by(one.id).limit(3).options(owner),
        select(Pet).from_statement(select(Pet).where(Pet.id < 4).order_by(Pet.id)).options(owner),
        update(Pet).where(Pet.id < 4).values(house_id=10).returning(Pet).options(owner),
    ):
        session.expunge_all()
        found = (await session.scalars(statement)).all()
        assert sorted((pet.id, pet.owner.id) for pet in found) == [(1, 1), (2, 1), (3, 2)]
    rows = [{"id": 50, "name": "new", "house_id": 10}]
    made = await session.scalars(insert(Person).returning(Person).options(federated_load(Person.house)), rows)
    assert [person.house.id for person in made] == [10]
    options = joinedload(House.pets), federated_load(House.pets, Pet.owner)
    house = (await session.scalars(select(House).limit(1).options(*options))).unique().one()
    assert [pet.owner.id for pet in house.pets] == [1, 1, 2]


async def test_documents_in_an_order_of_their_own(session: AsyncFederatedSession) -> None:
    """order_by may be a callable for documents, too."""
    person = await session.get_one(Person, 1)
    assert [letter.weight for letter in await person.awaitable_attrs.letters] == [5, 1]


async def test_the_first_of_several_is_the_one(session: AsyncFederatedSession) -> None:
    """One to one takes the first in the order that it says."""
    session.add_all([Badge(id=n, person_id=1) for n in (1, 2, 3)])
    await session.commit()
    assert (await (await session.get_one(Person, 1)).awaitable_attrs.badge).id == 3


# -- parents ---------------------------------------------------------------------------------------


async def test_expired_parents_are_read_together(session: AsyncFederatedSession, selects: list[str]) -> None:
    """After a commit, too, a load is one statement for the parents and one for the targets."""
    pets = await pets_of(session)
    for use in ("load", "lazily"):
        await session.commit()
        selects.clear()
        if use == "load":
            await session.load(pets, Pet.owner)
        else:
            await pets[0].awaitable_attrs.owner
        assert [pet.owner and pet.owner.id for pet in pets] == [1, 1, 2, None]
        assert selects.count("pets") <= 2
        assert selects.count("persons") == 1


async def test_keys_that_were_left_out_are_read_together(session: AsyncFederatedSession, selects: list[str]) -> None:
    """load_only() without the key costs one statement more."""
    pets = await pets_of(session, load_only(Pet.house_id))
    selects.clear()
    await session.load(pets, Pet.owner)
    assert [pet.owner and pet.owner.id for pet in pets] == [1, 1, 2, None]
    assert selects == ["pets", "persons"]


async def test_a_sibling_that_is_gone(session: AsyncFederatedSession) -> None:
    """Somebody has deleted it: the others are loaded."""
    pets = await pets_of(session)
    await session.commit()
    await session.execute(text("delete from pets where id = 4"), bind_arguments={"service": "pets"})
    assert (await pets[0].awaitable_attrs.owner).id == 1
    assert pets[1].owner.id == 1


async def test_pending_changed_and_deleted_ones(session: AsyncFederatedSession) -> None:
    """What the session has not written yet is written first."""
    new = Pet(id=77, owner_id=1)
    session.add(new)
    await session.load([new], Pet.owner)
    assert new.owner.id == 1
    new.owner_id = 2
    session.expire(new, ["owner"])
    assert (await new.awaitable_attrs.owner).id == 2
    await session.delete(await session.get_one(Person, 2))
    found = await pets_of(session, federated_load(Pet.owner))
    assert [pet.owner and pet.owner.id for pet in found] == [1, 1, None, None, None]


async def test_a_pending_document_in_a_savepoint(session: AsyncFederatedSession) -> None:
    """It is held back there, and found all the same by its id."""
    letter = Letter(id=PydanticObjectId("0" * 24), addressee=1)
    async with session.begin_nested():
        session.add(letter)
        assert await session.get(Letter, letter.id) is letter


async def test_populate_existing(session: AsyncFederatedSession, town: Federation) -> None:
    """It reads the targets anew, and forgets what was loaded by a key that has changed."""
    owner = federated_load(Pet.owner)
    pets = await pets_of(session, owner)
    async with town.session() as other:
        (await other.get_one(Person, 1)).name = "new"
        (await other.get_one(Pet, 4)).owner_id = 3
        await other.commit()
    anew = select(Pet).order_by(Pet.id).execution_options(populate_existing=True)
    assert [pet.owner and pet.owner.name for pet in await session.scalars(anew.options(owner))] == [
        *("new", "new", "p2", "p3")
    ]
    async with town.session() as other:
        (await other.get_one(Pet, 4)).owner_id = 2
        await other.commit()
    await session.scalars(anew)
    assert (await pets[3].awaitable_attrs.owner).id == 2


# -- streams ---------------------------------------------------------------------------------------


async def test_streams_lose_no_rows(session: AsyncFederatedSession) -> None:
    """Also where a chunk's targets are behind the connection that the rows come over."""
    session.add(Shop(id=1))
    await session.flush()
    await session.execute(
        insert(Badge), [{"id": n, "person_id": 1 + n % 3, "shop_id": 1, "twin_id": n} for n in range(1, 1001)]
    )
    await session.commit()
    for path in (federated_load(Badge.twin), federated_load(Badge.shop, Shop.person), federated_load(Badge.person)):
        session.expunge_all()
        statement = select(Badge).order_by(Badge.id).options(path).execution_options(yield_per=100)
        assert [badge.id async for badge in await session.stream_scalars(statement)] == list(range(1, 1001))


# -- changing --------------------------------------------------------------------------------------


async def test_both_sides_of_a_change(session: AsyncFederatedSession) -> None:
    """Who gains a member is shown, and who loses it, whichever side the change is made on."""
    one, two = [await session.get_one(Person, number) for number in (1, 2)]
    await session.load([one, two], Person.pets)
    pet = one.pets[0]
    pet.owner = two
    assert (pet in one.pets, pet in two.pets) == (False, True)
    one.pets.append(pet)
    assert (pet.owner, pet in one.pets, pet in two.pets) == (one, True, False)
    pet.owner = None
    assert (pet.owner_id, pet in one.pets) == (None, False)
    await session.commit()
    assert [pet.id for pet in await one.awaitable_attrs.pets] == [2]


async def test_what_a_list_can_do(session: AsyncFederatedSession) -> None:
    """Each way to change one sets and clears keys; copies are plain lists."""
    person = await session.get_one(Person, 1)
    first, second = await person.awaitable_attrs.pets
    person.pets.reverse()
    assert list(person.pets) == [second, first]
    person.pets.sort(key=lambda pet: pet.id)
    person.pets *= 1
    assert list(person.pets) == [first, second]
    with pytest.raises(ValueError, match="only once"):
        person.pets *= 2
    person.pets[:] = [second]
    assert (first.owner_id, second.owner_id) == (None, 1)
    person.pets += [first]
    assert first.owner_id == 1
    del person.pets[0]
    assert (second.owner_id, list(person.pets)) == (None, [first])
    person.pets *= 0
    assert (first.owner_id, list(person.pets)) == (None, [])
    with pytest.raises(RelationshipError, match=r"append\(\) and remove\(\)"):
        person.pets = [first]
    assert [type(copied) for copied in (copy.copy(person.pets), person.pets[:], pickle.loads(pickle.dumps([])))] == [
        *(list, list, list)
    ]


async def test_orphans_by_an_alias(town: Federation) -> None:
    """Keys of documents are found by whatever name the database has for their field."""
    async with town.session() as session:
        session.add(Letter(addressee=404))
        await session.commit()
    orphans = await town.orphans(Letter.receiver)
    assert (orphans.rows, orphans.keys, orphans.sample) == (1, 1, [404])
