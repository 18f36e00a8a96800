"""The documents' unit of work, one by one where it once went wrong."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, select

from fedorm import AsyncFederatedSession, Federation, UnsupportedOperationError
from tests.models import Product
from tests.support import stored


async def test_a_change_in_place_after_the_commit_is_kept(session: AsyncFederatedSession, fed: Federation) -> None:
    """A document that is found again is read anew only if nothing of it was changed."""
    product = Product(sku="a", price=1)
    session.add(product)
    await session.commit()
    product.labels.append("new")
    assert [one.labels for one in await session.find(Product).to_list()] == [["new"]]
    await session.commit()
    async with fed.session() as other:
        assert [one.labels for one in await other.find(Product).to_list()] == [["new"]]


async def test_rollback_without_a_transaction(session: AsyncFederatedSession, fed: Federation) -> None:
    """An assignment begins none, and is undone all the same."""
    product = Product(sku="a", price=1)
    session.add(product)
    await session.commit()
    product.price = 9
    assert session.is_modified(product)
    await session.rollback()
    assert (product.price, session.is_modified(product)) == (1, False)


async def test_rolling_back_from_within_a_savepoint(session: AsyncFederatedSession, fed: Federation) -> None:
    """The savepoint does not bring back what the whole transaction has lost."""
    product = Product(sku="a", price=1)
    session.add(product)
    await session.begin_nested()
    await session.rollback()
    assert product not in session
    await session.commit()
    assert await stored(fed) == {}


@pytest.mark.clickhouse
async def test_rows_held_for_the_commit_are_gone_after_a_rollback_from_within_a_savepoint(
    session: AsyncFederatedSession,
) -> None:
    """The same for rows of a service without rollback."""
    from tests.models import Event

    session.add(Event(id=1, user_id=1, kind="x"))
    await session.begin_nested()
    await session.rollback()
    await session.commit()
    assert (await session.scalars(select(Event))).all() == []


async def test_a_document_read_in_a_savepoint_stays(session: AsyncFederatedSession, fed: Federation) -> None:
    """As with rows; what is changed afterwards is written."""
    session.add(Product(sku="a", price=1))
    await session.commit()
    session.expunge_all()
    async with session.begin_nested() as savepoint:
        product = await session.find(Product).first_or_none()
        product.price = 5
        await savepoint.rollback()
    assert (product in session, product.price) == (True, 1)
    product.price = 9
    await session.commit()
    assert await stored(fed) == {"a": 9}


async def test_what_others_wrote_survives_a_savepoint(session: AsyncFederatedSession, fed: Federation) -> None:
    """A document refreshed in a savepoint that is rolled back does not write its older values."""
    product = Product(sku="a", price=1)
    session.add(product)
    await session.commit()
    async with session.begin_nested() as savepoint:
        async with fed.session() as other:
            (await other.find(Product).first_or_none()).price = 5
            await other.commit()
        await session.refresh(product)
        await savepoint.rollback()
    await session.commit()
    assert await stored(fed) == {"a": 5}


async def test_bulk_changes_in_a_savepoint_are_refused(session: AsyncFederatedSession, fed: Federation) -> None:
    """MongoDB could not take them back with it."""
    session.add(Product(sku="a", price=1))
    await session.commit()
    async with session.begin_nested():
        with pytest.raises(UnsupportedOperationError, match=r"service 'inventory'.*no savepoints"):
            await session.find(Product).update({"$set": {"price": 7}})
    await session.commit()
    assert await stored(fed) == {"a": 1}


async def test_another_document_in_the_place_of_a_deleted_one(session: AsyncFederatedSession, fed: Federation) -> None:
    """One flush deletes and inserts; a rollback brings the first back, and the second may be added again."""
    first = Product(sku="a", price=1)
    session.add(first)
    await session.commit()
    await session.delete(first)
    second = Product(id=first.id, sku="b", price=2)
    session.add(second)
    await session.flush()
    await session.rollback()
    assert (first in session, second in session) == (True, False)
    await session.delete(first)
    session.add(second)
    await session.commit()
    assert await stored(fed) == {"b": 2}


async def test_merging_over_a_deleted_document(session: AsyncFederatedSession, fed: Federation) -> None:
    """merge() makes one that takes its place."""
    product = Product(sku="a", price=1)
    session.add(product)
    await session.commit()
    await session.delete(product)
    await session.merge(Product(id=product.id, sku="c", price=3))
    await session.commit()
    assert await stored(fed) == {"c": 3}


async def test_deleted_documents_may_join_another_session(fed: Federation) -> None:
    """A closed session holds on to nothing, also not to what it was to delete."""
    async with fed.session() as one, fed.session() as two:
        product = Product(sku="a", price=1)
        one.add(product)
        await one.commit()
        await one.delete(product)
        await one.close()
        assert await two.merge(product) is not product
        two.expunge_all()
        await two.find(Product).delete()
        two.add(product)
        await two.commit()
    assert await stored(fed) == {"a": 1}


async def test_documents_of_a_listener(session: AsyncFederatedSession, fed: Federation) -> None:
    """What a listener of before_commit adds or changes is in the same commit."""
    product = Product(sku="a", price=1)

    @event.listens_for(session.sync_session, "before_commit")
    def audit(inner: Any) -> None:
        if product.price == 1:
            product.price = 2
            inner.add(Product(sku="audit", price=0))

    session.add(product)
    await session.commit()
    assert await stored(fed) == {"a": 2, "audit": 0}
