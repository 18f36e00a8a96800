"""What a type checker knows of a user's models; mypy reads this file, and the test runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Mapped, aliased, mapped_column

from fedorm import (
    AsyncFederatedSession,
    Federated,
    FederatedBase,
    FederatedSession,
    Federation,
    federated_load,
    federated_relationship,
)
from fedorm.relationship import FederatedAttribute


class Author(FederatedBase):
    __service__ = "typed_authors"
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Federated[list[Book]] = federated_relationship(remote_key="author_id")


class Book(FederatedBase):
    __service__ = "typed_books"
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int]
    author: Federated[Author] = federated_relationship(local_key="author_id")
    editor: Federated[Author | None] = federated_relationship(local_key="author_id")


async def use(fed: Federation, session: AsyncFederatedSession, plain: FederatedSession) -> None:
    statement = select(Book).options(federated_load(Book.author, Author.books))
    books = (await session.scalars(statement)).all()
    assert_type(books, Sequence[Book])
    assert_type(books[0].author, Author)
    assert_type(books[0].editor, Author | None)
    assert_type(books[0].author.books, list[Book])
    assert_type(books[0].author.books[0].author.name, str)
    assert_type(await session.get(Book, 1), Book | None)
    assert_type(plain.scalars(select(Author)).one(), Author)
    assert_type(fed.session(), AsyncFederatedSession)
    books[0].author = Author(name="x")
    assert_type(Book.author.has(Author.name == "x"), ColumnElement[bool])
    assert_type(Author.books.any(), ColumnElement[bool])
    assert_type(Book.author == books[0].author, ColumnElement[bool])
    joined = select(Book.id, Author.name).join(Book.author).outerjoin(Author.books.of_type(aliased(Book)))
    await session.execute(joined)
    await session.scalars(select(Book).join(Author, Book.author).where(~Author.books.any(), Book.author != None))  # noqa: E711


def test_on_the_class_it_is_what_loads_it() -> None:
    """Book.author is the attribute that federated_load() takes."""
    attribute = Book.author
    assert_type(attribute, FederatedAttribute)
    assert isinstance(attribute, FederatedAttribute)
    assert attribute.hop.target is Author
