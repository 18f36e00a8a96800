"""A user's code, typed as users type theirs: mypy and pyright, both strict, have to find nothing in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, assert_type

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import ColumnElement, Table, event, func, select, text
from sqlalchemy.orm import Mapped, aliased, mapped_column, relationship

from fedorm import (
    AsyncFederatedSession,
    Federated,
    FederatedBase,
    FederatedDocument,
    FederatedSession,
    Federation,
    Health,
    Orphans,
    PartialCommitError,
    ServiceUnavailableError,
    federated_load,
    federated_relationship,
)
from fedorm.integrations.fastapi import (
    Session,
    SyncTransaction,
    Transaction,
    in_transaction,
    lifespan,
    router,
)
from fedorm.migrate import Drift
from fedorm.outbox import Event, OutboxRule
from fedorm.query.explain import Explanation
from fedorm.relationship import FederatedAttribute
from fedorm.relay import handler
from fedorm.stats import Statistics
from fedorm.sync import CDC, Batch, EventDriven, RealTime, Replacing, SyncRule, sync_hook
from fedorm.sync.status import RuleStatus
from fedorm.sync.verifying import Verified


class Author(FederatedBase):
    __service__ = "typed_authors"
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Federated[list[Book]] = federated_relationship(remote_key="author_id", order_by="id")


def costs_something(row: dict[str, Any]) -> bool:
    return bool(row["price"] > 0)


def with_vat(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"price": row["price"] * 1.19}


class Book(FederatedBase):
    __service__ = "typed_books"
    __tablename__ = "books"
    __outbox__ = [OutboxRule(on=("insert",), columns=("id", "price"))]
    __sync__ = [
        SyncRule(
            to="BookFact",
            strategy=RealTime(poll=0.5),
            fields={"id": "book_id"},
            where=costs_something,
            transform=with_vat,
            on_delete="mark",
            mark={"price": 0},
        ),
        SyncRule(to="BookFact", strategy=EventDriven(), name="lambdas", where=lambda row: row["price"] > 0),
    ]
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int]
    price: Mapped[int]
    author: Federated[Author] = federated_relationship(local_key="author_id")
    editor: Federated[Author | None] = federated_relationship(local_key="author_id")
    chapters: Mapped[list[Chapter]] = relationship(back_populates="book")


class Chapter(FederatedBase):
    __service__ = "typed_books"
    __tablename__ = "chapters"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int]
    book: Mapped[Book] = relationship(
        back_populates="chapters", primaryjoin=lambda: Chapter.book_id == Book.id, foreign_keys=lambda: Chapter.book_id
    )


class Cover(FederatedDocument):
    __service__ = "typed_covers"
    isbn: str
    colours: list[str] = []
    book_id: int | None = None
    book: Federated[Book | None] = federated_relationship(local_key="book_id")

    class Settings:
        name = "covers"


class BookFact(Replacing, FederatedBase):
    __service__ = "typed_analytics"
    __tablename__ = "book_facts"
    book_id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int]


class AuthorFact(FederatedBase):
    __service__ = "typed_analytics"
    __tablename__ = "author_facts"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[int]


# -- relationships


def on_the_class() -> None:
    assert_type(Book.author, FederatedAttribute)
    assert_type(Book.author.has(Author.name == "x"), ColumnElement[bool])
    assert_type(Author.books.any(), ColumnElement[bool])
    assert_type(Book.author == Author(name="x"), ColumnElement[bool])
    federated_load(Author.books, Book.chapters, Chapter.book, Book.editor)


def on_an_instance(book: Book) -> None:
    assert_type(book.author, Author)
    assert_type(book.editor, Author | None)
    assert_type(book.author.books, list[Book])
    assert_type(book.author.books[0].author.name, str)
    book.author = Author(name="x")
    book.editor = None
    book.author.books.append(book)


# -- sessions


async def in_a_session(session: AsyncFederatedSession) -> None:
    statement = select(Book).options(federated_load(Book.author, Author.books))
    assert_type((await session.scalars(statement)).all(), Sequence[Book])
    assert_type((await session.execute(select(Book.id, Author.name).join(Book.author))).tuples().all(),
                Sequence[tuple[int, str]])  # fmt: skip
    assert_type(await session.scalar(select(func.count()).select_from(Book)), int | None)
    assert_type(await session.get(Book, 1), Book | None)
    assert_type(await session.get(Book, 1, options=[federated_load(Book.author)]), Book | None)
    assert_type(await session.get_one(Book, 1), Book)
    session.add(Author(name="x"))
    session.add_all([Author(name="y"), Book(author_id=1)])
    assert_type(await session.explain(statement, analyze=True), Explanation)
    assert_type(session.emit(Event("book.sold", key=1, data={"id": 1}), service="typed_books"), Event)
    await session.load([Author(name="x")], Author.books)
    joined = select(Book.id, Author.name).join(Book.author).outerjoin(Author.books.of_type(aliased(Book)))
    await session.execute(joined)
    await session.scalars(select(Book).join(Author, Book.author).where(~Author.books.any(), Book.author != None))  # noqa: E711
    async for one in await session.stream_scalars(statement):
        assert_type(one, Book)
    await session.execute(text("select 1"), bind_arguments={"service": "typed_books"})
    try:
        await session.commit()
    except PartialCommitError as error:
        print(error.committed, error.failed)
    except ServiceUnavailableError as error:
        print(error.service, error.address)


async def documents(session: AsyncFederatedSession) -> None:
    cover = Cover(isbn="1", colours=["red"])
    session.add(cover)
    assert_type(cover.isbn, str)
    assert_type(cover.book, Book | None)
    assert_type(await session.get(Cover, "1"), Cover | None)
    found: list[Cover] = await session.find(Cover, Cover.isbn == "1").to_list()
    await session.load(found, Cover.book)
    await session.execute(select(Book.id, Cover.c.isbn).join(Cover, Cover.c.book_id == Book.id))


def without_async(session: FederatedSession) -> None:
    assert_type(session.scalars(select(Author)).one(), Author)
    assert_type(session.execute(select(Author.id, Author.name)).tuples().all(), Sequence[tuple[int, str]])
    assert_type(session.get(Book, 1), Book | None)
    session.add(Author(name="x"))
    session.commit()


# -- the federation


async def around_sessions(fed: Federation) -> None:
    async with fed as opened, opened.session(twophase=True) as session:
        assert_type(opened, Federation)
        assert_type(session, AsyncFederatedSession)
    with fed, fed.sync_session() as plain:
        assert_type(plain, FederatedSession)
    assert_type(await fed.health(), dict[str, Health])
    assert_type(fed.stats(), Statistics)
    assert_type(await fed.orphans(Book.author), Orphans)
    assert_type(fed.tables["typed_books.books"], Table)
    assert_type((await fed.recover(older_than=5)).is_complete, bool)
    assert_type(await fed.migrate.upgrade("typed_books", wait=60), dict[str, list[str]])
    assert_type(await fed.migrate.check(), list[Drift])
    assert_type(fed.sync_migrate.current(), dict[str, list[str]])


# -- keeping data in sync


@sync_hook(source=Author, to=AuthorFact, strategy=Batch(every=60))
def author_fact(author: Author) -> AuthorFact | None:
    return AuthorFact(id=author.id, books=len(author.books)) if author.name else None


@sync_hook(source=Book, to=BookFact, strategy=CDC(), key={"id": "book_id"}, load=[Book.author])
async def book_fact(book: Book) -> BookFact:
    return BookFact(book_id=book.id, price=book.price)


async def rules(fed: Federation) -> None:
    assert_type(author_fact(Author(name="x")), AuthorFact | None)
    assert_type(await book_fact(Book(id=1)), BookFact)
    fed.sync.add(SyncRule(source=Author, to=BookFact, strategy=CDC(), transform_batch=lambda rows: rows))
    async with fed.sync.running():
        assert_type(await fed.sync.status(), list[RuleStatus])
    assert_type(await fed.sync.verify("author_fact", repair=True), Verified)


# -- events


class Sold(BaseModel):
    id: int


@handler("book.sold", service="typed_authors")
async def on_sold(event: Event, session: AsyncFederatedSession) -> None:
    session.add(Author(name=event.type))
    assert_type(session.emit(Sold(id=1), service="typed_authors"), Event)


@event.listens_for(FederatedSession, "after_commit")
def after_commit(session: FederatedSession) -> None:
    assert_type(session.get(Author, 1), Author | None)


@event.listens_for(Author, "before_insert")
def before_insert(mapper: Any, connection: Any, author: Author) -> None:
    author.name = author.name.strip()


async def relay(fed: Federation) -> None:
    fed.outbox.add(on_sold)
    async with fed.outbox.running():
        pass


# -- a web application

fed = Federation({"typed_authors": "sqlite+aiosqlite://", "typed_books": "sqlite+aiosqlite://"})
app = FastAPI(lifespan=lifespan(fed))
app.include_router(router(metrics=""))
BothOrNone = Annotated[AsyncFederatedSession, in_transaction(twophase=True)]


@app.get("/books/{number}")
async def book(number: int, session: Session) -> str | None:
    assert_type(session, AsyncFederatedSession)
    found = await session.get(Book, number, options=[federated_load(Book.author)])
    return found.author.name if found else None


@app.post("/authors")
async def new_author(name: str, session: Transaction, both: BothOrNone) -> None:
    assert_type(both, AsyncFederatedSession)
    session.add(Author(name=name))


@app.post("/books")
def new_book(price: int, session: SyncTransaction) -> None:
    assert_type(session, FederatedSession)
    session.add(Book(price=price))
