"""Documents of Elasticsearch in a session: their unit of work, searches, and their relationships."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from elasticsearch.dsl import A
from elasticsearch.dsl.query import Match, MatchAll, Term
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from fedorm import (
    DuplicateKeyError,
    DuplicateTableError,
    FederatedSearchDocument,
    Federation,
    PartialCommitError,
    StaleDocumentError,
    StoreError,
    UnsupportedOperationError,
    federated_load,
)
from fedorm.stores.elasticsearch import ElasticsearchStore
from fedorm.testing.rolling_back import rolled_back
from tests.stores.searched import Place, Publisher, Volume, VolumeText


@pytest.fixture
async def fed(fresh_database: Callable[[str], str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    urls = {"search_rows": fresh_database("postgresql"), "search_index": fresh_database("elasticsearch")}
    async with Federation(urls) as fed:
        await fed.create_all()
        yield fed


def store_of(fed: Federation) -> ElasticsearchStore:
    store = fed.stores["search_index"]
    assert isinstance(store, ElasticsearchStore)
    return store


async def put(fed: Federation, *instances: Any) -> None:
    async with fed.session() as session:
        session.add_all(instances)
        await session.commit()


# -- the unit of work


async def test_a_document_is_added_changed_and_deleted(fed: Federation) -> None:
    """Rows and documents are in one session; each change is checked against the one that was read."""
    async with fed.session() as session:
        volume = VolumeText(id=1, title="Red shoes", tags=["a"], place=Place(city="Bonn"))
        session.add_all([volume, Volume(id=1, stock=5)])
        await session.commit()
        volume.title = "Blue shoes"
        await session.commit()
        volume.tags.append("b")  # Once more in the same session: the change of before is known to it.
        await session.commit()
    async with fed.session() as session:
        found = await session.get(VolumeText, 1)
        assert found == VolumeText(id=1, title="Blue shoes", tags=["a", "b"], place=Place(city="Bonn"))
        await session.delete(found)
        await session.commit()
        assert await session.get(VolumeText, 1) is None


async def test_a_change_of_what_another_has_changed(fed: Federation) -> None:
    """It is refused, and so is deleting that; nothing else of the commit's documents is kept."""
    await put(fed, VolumeText(id=1, title="one"), VolumeText(id=2, title="two"))
    async with fed.session() as mine, fed.session() as other:
        one, two = await mine.get(VolumeText, 1), await mine.get(VolumeText, 2)
        theirs = await other.get(VolumeText, 1)
        theirs.title = "theirs"
        await other.commit()
        one.title, two.title = "mine", "mine"
        mine.add(VolumeText(id=3, title="three"))
        with pytest.raises(StaleDocumentError, match="1 were still there as they had been read"):
            await mine.commit()
        await mine.rollback()
        await mine.delete(await mine.get(VolumeText, 2))
        theirs.title = "again"
        await other.commit()
        await mine.commit()
    async with fed.session() as session:
        found = await session.find(VolumeText).sort("id").to_list()
        assert [(one.id, one.title) for one in found] == [(1, "again")]


async def test_an_id_that_is_taken(fed: Federation) -> None:
    await put(fed, VolumeText(id=1, title="one"))
    with pytest.raises(DuplicateKeyError, match=r"service 'search_index'.*VolumeText with the id '1'"):
        await put(fed, VolumeText(id=1, title="another"), VolumeText(id=2, title="two"))
    async with fed.session() as session:
        assert [one.title for one in await session.find(VolumeText).to_list()] == ["one"]


async def test_documents_are_sent_at_the_commit(fed: Federation) -> None:
    """A rollback before it leaves no trace, and neither do rows that are refused."""
    async with fed.session() as session:
        session.add(VolumeText(id=1, title="one"))
        await session.flush()
        assert await session.find(VolumeText).to_list() == []
        await session.rollback()
    await put(fed, Volume(id=2, stock=1))
    with pytest.raises(IntegrityError):
        await put(fed, VolumeText(id=2, title="two"), Volume(id=2, stock=2))
    async with fed.session() as session:
        assert await session.find(VolumeText).to_list() == []


async def test_text_that_an_index_does_not_take(fed: Federation) -> None:
    """The server's reason is told, and the service."""
    await put(fed, VolumeText(id=1, title="one"))
    async with store_of(fed).named():
        client = store_of(fed).client(sync=False)
        await client.indices.close(index=store_of(fed).index_of(VolumeText))
    with pytest.raises((StoreError, PartialCommitError), match="search_index"):
        await put(fed, VolumeText(id=2, title="two"))


async def test_documents_are_found_by_conditions(fed: Federation) -> None:
    """Without an order no more is read than the limit asks for; conditions are checked exactly."""
    await put(fed, *(VolumeText(id=number, title=f"t{number % 3}", pages=number) for number in range(100)))
    async with fed.session() as session:
        assert await session.find(VolumeText).count() == 100
        assert await session.find(VolumeText, {"title": "t1"}).count() == 33
        assert [one.id for one in await session.find(VolumeText, {"pages": {5, 7, 500}}).sort("-id").to_list()] == [
            7,
            5,
        ]
    before = store_of(fed).sent.rows
    async with fed.session() as session:
        assert len(await session.find(VolumeText).limit(3).to_list()) == 3
        assert (await session.find(VolumeText, {"title": "t2"}).first_or_none()).title == "t2"
    assert store_of(fed).sent.rows - before == 20


async def test_what_a_test_has_done_is_undone(fed: Federation) -> None:
    """Documents are as they were."""
    await put(fed, VolumeText(id=1, title="one"), VolumeText(id=2, title="two"))
    async with rolled_back(fed), fed.session() as session:
        (await session.get(VolumeText, 1)).title = "other"
        await session.delete(await session.get(VolumeText, 2))
        session.add(VolumeText(id=3, title="three"))
        await session.commit()
    async with fed.session() as session:
        found = await session.find(VolumeText).sort("id").to_list()
        assert found == [VolumeText(id=1, title="one"), VolumeText(id=2, title="two")]
        found[0].title = "changed"  # It is read as it is now: the change is not stale.
        await session.commit()


def test_one_class_an_index() -> None:
    with pytest.raises(DuplicateTableError, match="volumes"):

        class Another(FederatedSearchDocument):
            __service__ = "search_index"
            id: int

            class Index:
                name = "volumes"


# -- searches


@pytest.fixture
async def library(fed: Federation) -> Federation:
    """Three books, of which two are about shoes."""
    await put(
        fed,
        Publisher(id=7, name="Fox"),
        *(Volume(id=number, stock=number * 10) for number in (1, 2)),
        VolumeText(id=1, title="A shoe", note="of a horse", isbn="x-1", publisher_id=7),
        VolumeText(id=2, title="Shoes, shoes and shoes", isbn="x-2", pages=20, publisher_id=8),
        VolumeText(id=3, title="Hats", note="no shoes", isbn="x-3", pages=30),
    )
    return fed


async def test_hits_are_ranked_and_carry_their_relationships(library: Federation) -> None:
    """Words are found in every form; rows are loaded in one batch, and what has none is None."""
    async with library.session() as session:
        found = await session.search(
            VolumeText,
            Match(VolumeText.dsl.title, "shoe"),
            options=[federated_load(VolumeText.volume), federated_load(VolumeText.publisher)],
            highlight=["title"],
        )
        assert (found.total, found.is_exact, len(found)) == (2, True, 2)
        assert [hit.document.id for hit in found.hits] == [2, 1]
        assert [one.volume.stock for one in found] == [20, 10]
        assert [one.publisher and one.publisher.name for one in found] == [None, "Fox"]
        assert found.hits[0].score is not None
        assert found.hits[0].highlight["title"] == ["<em>Shoes</em>, <em>shoes</em> and <em>shoes</em>"]
        assert found.documents[1] is await session.get(VolumeText, 1)


async def test_a_text_is_looked_for_in_all_texts(library: Federation) -> None:
    async with library.session() as session:
        assert {one.id for one in await session.search(VolumeText, "horse hats")} == {1, 3}
        assert [one.id for one in await session.search(VolumeText, "x-1")] == []


async def test_searches_of_the_dsl(library: Federation) -> None:
    """A search may come with its own order and window; aggregations come beside the documents."""
    wanted = VolumeText.dsl.search().query(MatchAll()).sort("-isbn")[0:2]
    async with library.session() as session:
        assert [one.isbn for one in await session.search(VolumeText, wanted)] == ["x-3", "x-2"]
        found = await session.search(
            VolumeText,
            {"match_all": {}},
            size=1,
            offset=1,
            sort=["id"],
            aggregations={"pages": A("sum", field="pages")},
            more={"post_filter": Term(isbn="x-2").to_dict()},
        )
        assert ([one.id for one in found], found.aggregations["pages"]["value"]) == ([], 50)


async def test_searches_from_a_thread(library: Federation) -> None:
    def work() -> list[tuple[int, int]]:
        with library, library.sync_session() as session:
            found = session.search(VolumeText, "shoes", sort=["id"], options=[federated_load(VolumeText.volume)])
            return [(one.id, one.volume.stock if one.volume else 0) for one in found]

    assert await asyncio.to_thread(work) == [(1, 10), (2, 20), (3, 0)]


async def test_only_an_index_is_searched(library: Federation) -> None:
    async with library.session() as session:
        with pytest.raises(UnsupportedOperationError, match=r"service 'search_rows'.*ranks nothing"):
            await session.search(Volume, "shoes")


async def test_rows_lead_to_documents(library: Federation) -> None:
    """A document is also the target of a relationship, looked up by its id or by another field."""
    async with library.session() as session:
        statement = select(Volume).order_by(Volume.id).options(federated_load(Volume.text, VolumeText.publisher))
        volumes = (await session.scalars(statement)).all()
        assert [one.text.title for one in volumes] == ["A shoe", "Shoes, shoes and shoes"]
        assert volumes[0].text.publisher.name == "Fox"
        publisher = await session.get(Publisher, 7)
        assert [one.id for one in await publisher.awaitable_attrs.texts] == [1]
