"""Documents in the unit of work: found, changed, flushed, rolled back."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, InvalidRequestError

from fedorm import (
    AsyncFederatedSession,
    DocumentValidationError,
    DuplicateKeyError,
    FederatedDocument,
    Federation,
    StaleDocumentError,
)
from fedorm.stores.mongodb import MongoDBStore
from tests.models import Product, Supplier, User
from tests.support import stored


async def test_documents_add_get_delete(fed: Federation) -> None:
    """A document is the same object wherever the session meets it."""
    async with fed.session() as session:
        product = Product(sku="a", price=1)
        session.add(product)
        assert product in session
        assert product in session.new
        await session.commit()
        assert await session.get(Product, product.id) is product
        assert await session.get(Product, str(product.id)) is product
        assert await session.find(Product, Product.sku == "a").first_or_none() is product
        await session.delete(product)
        assert product in session.deleted
        await session.commit()
        assert product not in session
        assert await session.get(Product, product.id) is None
    assert await stored(fed) == {}


async def test_documents_change_tracking(fed: Federation) -> None:
    """A changed field is written at commit, also one changed in place; what did not change is not."""
    async with fed.session() as session:
        session.add_all([Product(sku="a", price=1), Product(sku="b", price=1)])
        await session.commit()
    async with fed.session() as session:
        first, second = await session.find(Product).sort("sku").to_list()
        first.price = 5
        second.labels.append("new")
        assert list(session.dirty) == [first]
        await session.commit()
    async with fed.session() as session:
        first, second = await session.find(Product).sort("sku").to_list()
        assert (first.price, first.labels, second.price, second.labels) == (5, [], 1, ["new"])


async def test_only_changed_fields_are_written(fed: Federation) -> None:
    """Two sessions that change different fields of a document keep both changes."""
    async with fed.session() as session:
        session.add(Product(sku="a", price=1))
        await session.commit()
    async with fed.session() as one, fed.session() as two:
        mine, yours = [await s.find(Product).first_or_none() for s in (one, two)]
        mine.price = 7
        yours.labels = ["x"]
        await one.commit()
        await two.commit()
    async with fed.session() as session:
        product = await session.find(Product).first_or_none()
        assert (product.price, product.labels) == (7, ["x"])


async def test_autoflush_before_a_query(session: AsyncFederatedSession) -> None:
    """A query sees what is pending, and nobody else does before the commit."""
    session.add(Product(sku="a", price=1))
    assert await session.find(Product, Product.price > 0).count() == 1


async def test_rollback_restores_documents(fed: Federation) -> None:
    """New ones leave, deleted ones come back, changed ones have their old values; the database never saw any."""
    async with fed.session() as session:
        changed, deleted = Product(sku="changed", price=1), Product(sku="deleted", price=1)
        session.add_all([changed, deleted])
        await session.commit()
        changed.price = 9
        changed.labels.append("no")
        await session.delete(deleted)
        new = Product(sku="new", price=1)
        session.add(new)
        await session.flush()
        await session.rollback()
        assert (changed.price, changed.labels) == (1, [])
        assert (deleted in session, new in session) == (True, False)
        await session.commit()
    assert await stored(fed) == {"changed": 1, "deleted": 1}


async def test_a_failing_commit_writes_nothing_anywhere(fed: Federation) -> None:
    """An invalid document keeps rows and other documents from being written, too."""
    async with fed.session() as session:
        product = Product(sku="a", price=1)
        session.add_all([User(id=1, email="x"), Product(sku="b", price=1), product])
        product.price = "dear"  # type: ignore[assignment]
        with pytest.raises(DocumentValidationError, match=r"service 'inventory', document Product .*price") as raised:
            await session.commit()
        assert raised.value.model == "Product"
        await session.rollback()
    async with fed.session() as session:
        assert (await session.scalars(select(User))).all() == []
    assert await stored(fed) == {}


async def test_a_row_that_fails_keeps_documents_out(fed: Federation) -> None:
    """Rows are flushed first; documents and their transaction follow."""
    async with fed.session() as session:
        session.add_all([User(id=1, email="x"), Product(sku="a", price=1)])
        await session.commit()
    async with fed.session() as session:
        session.add_all([User(id=1, email="twice"), Product(sku="b", price=1)])
        with pytest.raises(IntegrityError):
            await session.commit()
        await session.rollback()
    assert await stored(fed) == {"a": 1}


async def test_duplicate_document_keys(fed: Federation) -> None:
    """The error is of fedorm's hierarchy and names the service."""
    async with fed.session() as session:
        product = Product(sku="a", price=1)
        session.add(product)
        await session.commit()
    async with fed.session() as session:
        session.add_all([User(id=5, email="x"), Product(id=product.id, sku="b", price=1)])
        with pytest.raises(DuplicateKeyError, match="service 'inventory'"):
            await session.commit()
        await session.rollback()
    async with fed.session() as session:
        assert (await session.scalars(select(User))).all() == []
    assert await stored(fed) == {"a": 1}


async def test_stale_documents(fed: Federation) -> None:
    """Changing a document that somebody has deleted is an error, not silence."""
    async with fed.session() as one, fed.session() as two:
        one.add(Product(sku="a", price=1))
        await one.commit()
        mine, yours = [await s.find(Product).first_or_none() for s in (one, two)]
        await one.delete(mine)
        await one.commit()
        yours.price = 3
        with pytest.raises(StaleDocumentError, match="service 'inventory'"):
            await two.commit()
        await two.rollback()


async def test_bulk_changes_of_documents_roll_back(fed: Federation) -> None:
    """A Beanie update or delete runs in the session's transaction."""
    async with fed.session() as session:
        session.add_all([Product(sku=str(n), price=n) for n in range(4)])
        await session.commit()
        await session.find(Product, Product.price > 1).update({"$set": {"price": 50}})
        assert sorted(p.price for p in await session.find(Product).to_list()) == [0, 1, 50, 50]
        await session.find(Product, Product.price == 0).delete()
        assert await session.find(Product).count() == 3
        await session.rollback()
    assert await stored(fed) == {"0": 0, "1": 1, "2": 2, "3": 3}


async def test_two_mongo_services_at_once(fed: Federation) -> None:
    """Documents of two services, each in its own database."""
    async with fed.session() as session:
        supplier = Supplier(name="s")
        session.add_all([supplier, Product(sku="a", price=1, supplier_id=supplier.id)])
        await session.commit()
        store = fed.stores["inventory"]
        assert isinstance(store, MongoDBStore)
        names = await store.collection(Product, sync=False).database.list_collection_names()
        assert "suppliers" not in names


async def test_merge_and_expunge_documents(fed: Federation) -> None:
    """merge() copies onto the session's own; expunge() lets go."""
    async with fed.session() as session:
        product = Product(sku="a", price=1)
        session.add(product)
        await session.commit()
        session.expunge(product)
        assert product not in session
        product.price = 4
        merged = await session.merge(product)
        assert merged is not product
        await session.commit()
    assert await stored(fed) == {"a": 4}


async def test_a_document_has_one_session(fed: Federation) -> None:
    """As with rows, a document cannot be in two sessions."""
    async with fed.session() as one, fed.session() as two:
        product = Product(sku="a", price=1)
        one.add(product)
        with pytest.raises(InvalidRequestError, match="already in another session"):
            two.add(product)


async def test_models_declared_while_a_federation_is_open(fed: Federation) -> None:
    """A class that comes late, derived or not, has the fields of its bases with their own defaults."""

    class LateProduct(Product):
        colour: str = "red"

    class Late(FederatedDocument):
        __service__ = "inventory"
        id: int  # type: ignore[assignment]
        number: int

    assert LateProduct.model_fields["labels"].default == []
    assert LateProduct(sku="a", price=1).revision_id is None
    with pytest.raises(ValidationError):
        Late(number=7)  # type: ignore[call-arg]
    url = fed.stores["inventory"].settings.url.get_secret_value()
    async with Federation({"inventory": url}) as again, again.session() as session:
        session.add_all([LateProduct(sku="late", price=2), Late(id=1, number=7)])
        await session.commit()
        assert [late.number for late in await session.find(Late).to_list()] == [7]
