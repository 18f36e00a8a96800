"""Documents of a search index, and the rows they belong to, for tests of what Elasticsearch is asked."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from elasticsearch.dsl import Integer, Keyword, Text, mapped_field
from pydantic import BaseModel, Field
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import Federated, FederatedBase, FederatedSearchDocument, federated_relationship


class Publisher(FederatedBase):
    __service__ = "search_rows"
    __tablename__ = "publishers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    texts: Federated[list[VolumeText]] = federated_relationship(remote_key="publisher_id", order_by="id")


class Volume(FederatedBase):
    """What is searched, as it is in PostgreSQL."""

    __service__ = "search_rows"
    __tablename__ = "volume_rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    stock: Mapped[int]
    text: Federated[VolumeText] = federated_relationship(local_key="id")


class Place(BaseModel):
    city: Annotated[str, Keyword()]
    since: datetime.date | None = Field(default=None, alias="opened")


class VolumeText(FederatedSearchDocument):
    """The same for searches."""

    __service__ = "search_index"
    id: int
    title: Annotated[str, Text(analyzer="english")]
    note: str | None = None
    isbn: Annotated[str | None, Keyword()] = None
    pages: Annotated[int | None, mapped_field(Integer())] = None
    price: Decimal | None = None
    rating: float | None = None
    sold: bool | None = None
    printed: datetime.datetime | None = None
    batch: UUID | None = None
    tags: list[str] = []
    place: Place | None = None
    extra: Any = None
    publisher_id: int | None = None
    volume: Federated[Volume] = federated_relationship(local_key="id")
    publisher: Federated[Publisher] = federated_relationship(local_key="publisher_id")

    class Index:
        name = "volumes"
        settings = {"number_of_shards": 1}
