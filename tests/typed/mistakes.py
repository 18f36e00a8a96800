"""Mistakes that a type checker has to find: each line with a comment ``refused``, and no other."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from fedorm import AsyncFederatedSession, Federation, federated_load
from fedorm.sync import CDC, RealTime, SyncRule, sync_hook
from tests.typed.library import Author, AuthorFact, Book, Cover


def never_empty(book: Book) -> None:
    book.author = None  # refused: this relationship is never empty


def another_class(book: Book, author: Author) -> None:
    book.editor = book  # refused: an author is wanted
    author.books = [author]  # refused: a list of authors is no list of books


def names(book: Book, author: Author) -> None:
    print(book.author.title)  # refused: an author has no title
    print(book.editor.name)  # refused: there may be none
    print(author.books.name)  # refused: a list has no name


def documents() -> None:
    Cover(isbn="1").isbn = 1  # refused: a text
    federated_load(Cover.isbn)  # refused: a text is no relationship


def on_the_class() -> None:
    federated_load("author")  # refused: a relationship, not its name
    federated_load(Book.author, Author)  # refused: a relationship, not a class
    print(Book.author.name_of_it)  # refused: on the class it is a relationship


async def in_a_session(session: AsyncFederatedSession, fed: Federation) -> None:
    books: list[Author] = list((await session.scalars(select(Book))).all())  # refused: those are books
    print(books, (await session.get(Book, 1)).author)  # refused: there may be none
    print(session.get(Book, 1).author)  # refused: it has to be awaited
    await session.explain("select 1")  # refused: a statement, not a text
    await fed.recover(older_than="60")  # refused: seconds
    await fed.migrate.upgrade(wait="long")  # refused: seconds
    print(fed.sync_session().scalars(select(Book)).first().author)  # refused: there may be none
    await fed.orphans()  # refused: of which relationship
    await fed.orphans(Book.id)  # refused: a relationship, not a column
    Federation(services=1)  # refused: a mapping


SyncRule(to=AuthorFact, strategy="cdc")  # refused: CDC()
SyncRule(to=AuthorFact, strategy=CDC(), on_delete="forget")  # refused: delete, ignore or mark
SyncRule(to=AuthorFact, strategy=CDC(), where=True)  # refused: a function
SyncRule(to=AuthorFact, strategy=RealTime(every=5))  # refused: poll=
SyncRule(AuthorFact, CDC())  # refused: names are to be given


@sync_hook(source=Author, to=AuthorFact, strategy=CDC())
def fact(author: Author) -> AuthorFact:
    return AuthorFact(id=author.id)


@sync_hook(source=Author, to=AuthorFact, strategy=CDC())  # refused: the function is given an author
def fact_of_a_book(book: Book) -> AuthorFact:
    return AuthorFact(id=book.id)


print(fact(Book()))  # refused: the function is still the function of an author


def unchecked(anything: Any) -> None:
    print(anything.author)
