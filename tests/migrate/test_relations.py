"""What ``check`` finds between services, which no single database can know."""

from __future__ import annotations

from sqlalchemy import BigInteger
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


def test_services_that_are_not_there() -> None:
    """A relationship to a service that the federation does not have is nobody's concern here."""
    assert relation_drifts(("rel_homes", "rel_pets"), ("rel_homes", "rel_pets")) == []


def test_keys_that_fit() -> None:
    """Nothing is found where each side has its index and the other one's type."""
    services = ("mig_users", "mig_sales")
    assert relation_drifts(services, services) == []
