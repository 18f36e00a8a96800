"""The library in FastAPI: ``uvicorn examples.web.fastapi_app:app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from examples.web.models import SERVICES, Loan, Reader
from fedorm import Federation, federated_load
from fedorm.integrations.fastapi import Session, SyncSession, Transaction, lifespan, router

fed = Federation(SERVICES)


class Card(BaseModel):
    """What a reader's card shows."""

    name: str
    books: list[str]


@asynccontextmanager
async def with_tables(app: FastAPI) -> AsyncIterator[None]:
    """Make the tables before the first request; a real application has migrations."""
    await fed.create_all()
    yield


app = FastAPI(title="Library", lifespan=lifespan(fed, threads=True, inner=with_tables))
app.include_router(router())


@app.post("/readers/{number}", status_code=201)
async def enrol(number: int, name: str, book: str, session: Transaction) -> Card:
    """Take in a reader with a first book; a conflict undoes both."""
    session.add(Reader(id=number, name=name))
    await session.flush()
    if await session.get(Loan, book) is not None:
        raise HTTPException(409, f"{book} is lent")
    session.add(Loan(book=book, reader_id=number))
    return Card(name=name, books=[book])


@app.get("/readers/{number}")
async def card(number: int, session: Session) -> Card:
    """Show a reader's card."""
    reader = await session.get(Reader, number, options=[federated_load(Reader.loans)])
    if reader is None:
        raise HTTPException(404)
    return Card(name=reader.name, books=[loan.book for loan in reader.loans])


@app.get("/books/{book}")
def borrower(book: str, session: SyncSession) -> str | None:
    """Say who has a book; not async, and run in a thread."""
    loan = session.get(Loan, book)
    return loan.reader.name if loan is not None else None
