"""What a base of a user's own gives to its models, and foreign keys that no database could hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import ForeignKey, MetaData, String
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, configure_mappers, mapped_column, relationship
from sqlalchemy.schema import CreateTable

from fedorm import FederatedBase, ModelError
from tests.test_readme import run


class NamingBase(FederatedBase):
    __abstract__ = True
    __service__ = "named_things"
    metadata = MetaData(
        schema="own", naming_convention={"pk": "pk_%(table_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"}
    )
    type_annotation_map = {str: String(77)}


class NamedShelf(NamingBase):
    __tablename__ = "named_shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    boxes: Mapped[list[NamedBox]] = relationship(back_populates="shelf")


class NamedBox(FederatedBase):
    __service__, __tablename__ = "named_things", "named_boxes"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    shelf_id: Mapped[int] = mapped_column(ForeignKey("own.named_shelves.id"))
    shelf: Mapped[NamedShelf] = relationship(back_populates="boxes")


def ddl(model: type[FederatedBase]) -> list[str]:
    made = str(CreateTable(model.__table__).compile(dialect=postgresql.dialect()))
    return [line.strip(" \t,") for line in made.strip().splitlines()][1:-1]


def test_a_base_of_ones_own() -> None:
    """Its schema and naming convention are those of the service, its types those of its models alone."""
    configure_mappers()
    assert ddl(NamedShelf) == [
        "id SERIAL NOT NULL",
        "label VARCHAR(77) NOT NULL",
        "CONSTRAINT pk_named_shelves PRIMARY KEY (id)",
    ]
    assert ddl(NamedBox) == [
        "id SERIAL NOT NULL",
        "label VARCHAR NOT NULL",
        "shelf_id INTEGER NOT NULL",
        "CONSTRAINT pk_named_boxes PRIMARY KEY (id)",
        "CONSTRAINT fk_named_boxes_shelf_id FOREIGN KEY(shelf_id) REFERENCES own.named_shelves (id)",
    ]
    assert FederatedBase.metadata_of("named_things").tables.keys() == {"own.named_shelves", "own.named_boxes"}


def test_two_bases_that_name_differently() -> None:
    """One service has one convention."""

    class OtherBase(FederatedBase):
        __abstract__ = True
        __service__ = "named_things"
        metadata = MetaData(naming_convention={"pk": "%(table_name)s_pk"})

    with pytest.raises(ModelError, match="'named_things' have bases whose MetaData differ in their naming_convention"):
        type("NamedLid", (OtherBase,), {"__tablename__": "named_lids", "id": mapped_column(primary_key=True)})


CROSSING = """
from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, configure_mappers, mapped_column
from fedorm import CrossServiceForeignKeyError, FederatedBase

class User(FederatedBase):
    __service__, __tablename__ = "users", "users"
    id: Mapped[int] = mapped_column(primary_key=True)

class Order(FederatedBase):
    __service__, __tablename__ = "orders", "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))

try:
    configure_mappers()
except CrossServiceForeignKeyError as error:
    print(error)
"""


def test_a_foreign_key_to_another_service(tmp_path: Path) -> None:
    """It is refused with what to do, before SQLAlchemy says that it does not find the table."""
    assert run(CROSSING, tmp_path).startswith(
        "orders.user_id of service 'orders' has a ForeignKey to users.id of service 'users', and no database can hold "
    )
