"""What ``check`` finds between services, which no single database can know."""

from __future__ import annotations

from pymongo import IndexModel
from sqlalchemy import BigInteger, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import Federated, FederatedBase, FederatedDocument, federated_relationship
from fedorm.migrate import Drift
from fedorm.migrate.relations import relation_drifts
from tests.migrate import models  # noqa: F401


class RelatedOwner(FederatedBase):
    __service__ = "rel_owners"
    __tablename__ = "rel_owners"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    pets: Federated[list[RelatedPet]] = federated_relationship(remote_key="owner_id")
    toys: Federated[list[RelatedToy]] = federated_relationship(remote_key="owner_id")


class RelatedPet(FederatedBase):
    __service__ = "rel_pets"
    __tablename__ = "rel_pets"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int]
    owner: Federated[RelatedOwner] = federated_relationship(local_key="owner_id")
    home: Federated[RelatedHome] = federated_relationship(local_key="id", remote_key="pet_id")


class RelatedHome(FederatedBase):
    __service__ = "rel_homes"
    __tablename__ = "rel_homes"
    id: Mapped[int] = mapped_column(primary_key=True)
    pet_id: Mapped[int] = mapped_column(unique=True)


class RelatedToy(FederatedDocument):
    __service__ = "rel_toys"
    owner_id: int

    class Settings:
        name = "rel_toys"


class RelatedPartOwner(FederatedBase):
    __service__ = "rel_part_owners"
    __tablename__ = "rel_part_owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    some: Federated[list[RelatedPart]] = federated_relationship(remote_key="some_id")
    known: Federated[list[RelatedPart]] = federated_relationship(remote_key="known_id")
    papers: Federated[list[RelatedPaper]] = federated_relationship(remote_key="some_id")
    letters: Federated[list[RelatedPaper]] = federated_relationship(remote_key="known_id")


class RelatedPart(FederatedBase):
    __service__ = "rel_parts"
    __tablename__ = "rel_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    some_id: Mapped[int | None]
    known_id: Mapped[int | None]
    done: Mapped[bool]
    __table_args__ = (
        Index("rel_parts_some", "some_id", postgresql_where=text("done")),
        Index("rel_parts_known", "known_id", postgresql_where=text("known_id IS NOT NULL")),
    )


class RelatedPaper(FederatedDocument):
    __service__ = "rel_papers"
    some_id: int
    known_id: int
    done: bool

    class Settings:
        name = "rel_papers"
        indexes = [
            IndexModel([("some_id", 1)], partialFilterExpression={"done": True}),
            IndexModel([("known_id", 1)], partialFilterExpression={"known_id": {"$exists": True}}),
        ]


SERVICES = ("rel_owners", "rel_pets", "rel_homes", "rel_toys")


def test_keys_between_services() -> None:
    """Integers of two sizes, and keys without an index, of tables and collections; a unique column is one."""
    size = "the keys have to be of one type"
    scan = "which no index begins with: each load reads all of them"
    assert relation_drifts(SERVICES, SERVICES) == [
        Drift(
            "rel_owners", "rel_owners", f"RelatedOwner.pets goes from id, BigInteger(), to owner_id, Integer(): {size}"
        ),
        Drift("rel_pets", "rel_pets", f"RelatedOwner.pets finds its rows by owner_id, {scan}"),
        Drift("rel_toys", "rel_toys", f"RelatedOwner.toys finds its rows by owner_id, {scan}"),
        Drift("rel_pets", "rel_pets", f"RelatedPet.owner goes from owner_id, Integer(), to id, BigInteger(): {size}"),
    ]


def test_keys_with_partial_indexes() -> None:
    """An index of some rows or documents alone is none for a load; one that leaves out null keys is one."""
    services = ("rel_part_owners", "rel_parts", "rel_papers")
    scan = "which no index begins with: each load reads all of them"
    assert relation_drifts(services, services) == [
        Drift("rel_parts", "rel_parts", f"RelatedPartOwner.some finds its rows by some_id, {scan}"),
        Drift("rel_papers", "rel_papers", f"RelatedPartOwner.papers finds its rows by some_id, {scan}"),
    ]


def test_services_that_are_not_there() -> None:
    """A relationship to a service that the federation does not have is nobody's concern here."""
    assert relation_drifts(("rel_homes", "rel_pets"), ("rel_homes", "rel_pets")) == []


def test_keys_that_fit() -> None:
    """Nothing is found where each side has its index and the other one's type."""
    services = ("mig_users", "mig_sales")
    assert relation_drifts(services, services) == []
