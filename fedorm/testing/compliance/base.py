"""What all parts of the suite share: the federation of one service, its models, and declared gaps."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import pytest
from sqlalchemy import select

from fedorm import AsyncFederatedSession, FederatedSession, Federation
from fedorm.entity import is_document
from fedorm.stores.base import DocumentStore, Store
from fedorm.testing.compliance import rows
from fedorm.testing.compliance.rows import SERVICE
from fedorm.testing.compliance.values import Feature

T = TypeVar("T")
SERVICE_NAMED = re.compile(rf"service:? '?{SERVICE}\b(?!_)")


@dataclass(frozen=True, slots=True)
class Gap:
    """A feature that a store lacks, and why."""

    reason: str


class Refused(Gap):
    """The store refuses such values with an error that names the service; nothing is written."""


class Lost(Gap):
    """The database keeps something else and nobody is told; the README has to say so."""


@dataclass(frozen=True, slots=True)
class Models:
    """The suite's models in the shape that a store holds."""

    sample: Any
    target: Any
    link: Any


def models_of(store: Store) -> Models:
    """Return the models for what ``store`` holds."""
    if not isinstance(store, DocumentStore):
        return Models(rows.SampleRow, rows.TargetRow, rows.LinkRow)
    if not is_beanie(store):
        from fedorm.testing.compliance.entities import entities

        base: Any = store.entity_base()
        return Models(*entities(base))
    from fedorm.testing.compliance import documents

    return Models(documents.SampleDocument, documents.TargetDocument, documents.LinkDocument)


def is_beanie(store: Store) -> bool:
    """Say whether a store's objects are Beanie's, whose ids are given otherwise, and whose queries change documents."""
    return isinstance(store, DocumentStore) and store.entity_base().__name__ == "FederatedDocument"


class Suite:
    """The base of the suite's classes; a subclass gives ``url`` and declares its ``gaps``."""

    gaps: ClassVar[Mapping[Feature, Gap]] = {}
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def url(self) -> str:
        """Give the URL of an empty database."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture 'url': an empty database of the store's kind")

    @pytest.fixture
    async def fed(self, url: str, no_stray_tasks: None) -> AsyncIterator[Federation]:
        """Open a federation whose only service is the store."""
        async with self.federation(url) as fed:
            await fed.create_all()
            yield fed

    def federation(self, url: str) -> Federation:
        """Make a federation of one service; not open yet."""
        fed = Federation({SERVICE: {"url": url, **self.settings}})
        models_of(fed.stores[SERVICE])  # Documents are bound when the store opens: they have to be known by then.
        return fed

    @pytest.fixture
    def store(self, fed: Federation) -> Store:
        """Give the store under test."""
        return fed.stores[SERVICE]

    @pytest.fixture
    def models(self, store: Store) -> Models:
        """Give the models that the store can hold."""
        return models_of(store)


async def write(fed: Federation, instances: Sequence[Any]) -> None:
    """Commit ``instances`` in a session of their own."""
    async with fed.session() as session:
        session.add_all(instances)
        await session.commit()


async def read(fed: Federation, model: Any) -> list[Any]:
    """Return what a new session finds, ordered by id."""
    async with fed.session() as session:
        return await everything(session, model)


async def everything(session: AsyncFederatedSession, model: Any) -> list[Any]:
    """Return what ``session`` finds, ordered by id."""
    if is_document(model):
        found: list[Any] = await session.find(model).sort(id_name(session.sync_session, model)).to_list()
        return found
    return list(await session.scalars(select(model).order_by(model.id)))


async def ids_where(session: AsyncFederatedSession, model: Any, column: str, value: Any) -> list[int]:
    """Return the ids of what holds ``value``."""
    if is_document(model):
        found = await session.find(model, {column: value}).sort(id_name(session.sync_session, model)).to_list()
        return [document.id for document in found]
    statement = select(model.id).where(getattr(model, column) == value).order_by(model.id)
    return list(await session.scalars(statement))


def id_name(session: FederatedSession, model: Any) -> str:
    """Return what a query sorts by for the order of ids."""
    store = session.store_of(model)
    assert isinstance(store, DocumentStore)
    return store.id_name


def everything_sync(session: FederatedSession, model: Any) -> list[Any]:
    """Return what a session for threads finds, ordered by id."""
    if is_document(model):
        found: list[Any] = session.find(model).sort(id_name(session, model)).all()
        return found
    return list(session.scalars(select(model).order_by(model.id)))


async def in_thread(fed: Federation, work: Callable[[FederatedSession], T]) -> T:
    """Run ``work`` with a session for threads, in a thread, as code without an event loop would."""

    def run() -> T:
        with fed, fed.sync_session() as session:
            return work(session)

    return await asyncio.to_thread(run)


@contextmanager
def refusal() -> Iterator[None]:
    """Expect an error that names the service, in its text or in a note of it."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of which class, the driver decides
        yield
    assert names_service(raised.value), f"does not name the service {SERVICE!r}: {raised.value!r}"


def names_service(error: BaseException) -> bool:
    """Say whether ``error`` tells whose it is."""
    return SERVICE_NAMED.search("\n".join([str(error), *getattr(error, "__notes__", ())])) is not None
