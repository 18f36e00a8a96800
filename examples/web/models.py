"""Readers and what they borrow, which two services own."""

from __future__ import annotations

import os

from sqlalchemy.orm import Mapped, mapped_column

from fedorm import Federated, FederatedBase, federated_relationship


class Reader(FederatedBase):
    """Who may borrow."""

    __service__ = "readers"
    __tablename__ = "readers"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    loans: Federated[list[Loan]] = federated_relationship(remote_key="reader_id", order_by="book")


class Loan(FederatedBase):
    """A book that a reader has."""

    __service__ = "loans"
    __tablename__ = "loans"
    book: Mapped[str] = mapped_column(primary_key=True)
    reader_id: Mapped[int]
    reader: Federated[Reader] = federated_relationship(local_key="reader_id")


SERVICES = {
    "readers": os.environ.get("READERS_URL", "sqlite+aiosqlite:///readers.db"),
    "loans": os.environ.get("LOANS_URL", "sqlite+aiosqlite:///loans.db"),
}
