"""The history of a service of documents, on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedorm import Federation
from fedorm.migrate import Drift, MigrationError, MigrationFailedError, Migrations
from fedorm.stores.mongodb_schema import HISTORY, own_collections
from tests.migrate.conftest import Federate
from tests.migrate.models import MigratedGood

SERVICE = "mig_goods"
COLLECTION = "mig_goods"


async def collections(fed: Federation) -> list[str]:
    store: Any = fed.stores[SERVICE]
    return sorted(await store.own_database().list_collection_names())


async def begun(fed: Federation) -> tuple[Migrations, str]:
    """A history with one revision, which makes all that the models declare."""
    fed.migrate.init()
    path = await fed.migrate.revision(SERVICE, "Make all", autogenerate=True)
    assert path is not None
    return fed.migrate, path.stem


def write(folder: Path, name: str, text: str) -> None:
    (folder / "migrations" / SERVICE / "versions" / f"{name}.py").write_text(text)


async def test_a_history_from_models(mongodb_url: str, federate: Federate) -> None:
    """Autogenerate finds collections, indexes and validators, fedorm's own too; downgrade leaves nothing."""
    async with federate(mig_goods=mongodb_url) as fed:
        migrate, revision = await begun(fed)
        assert await migrate.upgrade() == {SERVICE: [revision]}
        assert await migrate.check() == []
        assert await collections(fed) == sorted([COLLECTION, HISTORY, *own_collections()])
        assert await migrate.current() == {SERVICE: [revision]}
        assert await migrate.revision(SERVICE, "nothing", autogenerate=True) is None
        assert await migrate.upgrade() == {SERVICE: []}
        assert [(one.id, one.down, one.message, one.is_head) for one in migrate.revisions()[SERVICE]] == [
            (revision, (), "Make all", True)
        ]
        assert await migrate.downgrade(None, "base") == {SERVICE: [revision]}
        assert await collections(fed) == [HISTORY]
        assert await migrate.current() == {SERVICE: []}
        assert await migrate.upgrade() == {SERVICE: [revision]}


async def test_the_shape_of_what_is_made(mongodb_url: str, federate: Federate) -> None:
    """The collection takes the model's documents, and no others; the indexes are those of Beanie."""
    async with federate(mig_goods=mongodb_url) as fed:
        migrate, _ = await begun(fed)
        await migrate.upgrade()
        async with fed.session() as session:
            session.add(MigratedGood(sku="a", price=1.0, user_id=1))
            await session.commit()
        store: Any = fed.stores[SERVICE]
        database = store.own_database()
        made = await database[COLLECTION].index_information()
        assert {name: (one["key"], one.get("unique")) for name, one in made.items()} == {
            "_id_": ([("_id", 1)], None),
            "sku_1": ([("sku", 1)], True),
            "user_id_1": ([("user_id", 1)], None),
            "price_-1_sku_1": ([("price", -1), ("sku", 1)], None),
        }
        (told,) = await (await database.list_collections(filter={"name": COLLECTION})).to_list()
        assert told["options"]["validator"] == MigratedGood.Settings.validator


async def test_drift(mongodb_url: str, federate: Federate) -> None:
    """What somebody changes by hand is found, each thing by itself; the next revision brings it back."""
    async with federate(mig_goods=mongodb_url) as fed:
        migrate, _ = await begun(fed)
        await migrate.upgrade()
        store: Any = fed.stores[SERVICE]
        database = store.own_database()
        await database.drop_collection("fedorm_inbox")
        await database.create_collection("strange")
        await database[COLLECTION].drop_index("user_id_1")
        await database[COLLECTION].drop_index("sku_1")
        await database[COLLECTION].create_index([("sku", 1)], name="sku_1")
        await database[COLLECTION].create_index([("more", 1)], name="more")
        await database.command("collMod", COLLECTION, validator={})
        assert await migrate.check() == [
            Drift(SERVICE, "fedorm_inbox", "the collection is not there"),
            Drift(SERVICE, COLLECTION, "no model declares index more"),
            Drift(SERVICE, COLLECTION, "index sku_1 is on sku, and on sku with unique True in the models"),
            Drift(SERVICE, COLLECTION, "index user_id_1 is not there"),
            Drift(SERVICE, COLLECTION, "the validator is not there"),
            Drift(SERVICE, "strange", "no model declares the collection"),
        ]
        path = await migrate.revision(SERVICE, "Mend", autogenerate=True)
        assert path is not None
        assert (await migrate.check())[0].what.endswith("run  fedorm migrate upgrade --service mig_goods")
        await migrate.upgrade()
        assert await migrate.check() == []
        await migrate.downgrade(SERVICE, "-1")
        assert [one.what for one in await migrate.check()][1:] == [
            "the collection is not there",
            "no model declares index more",
            "index sku_1 is on sku, and on sku with unique True in the models",
            "index user_id_1 is not there",
            "the validator is not there",
            "no model declares the collection",
        ]


BEANIE = """
from beanie import Document, iterative_migration

class Old(Document):
    sku: str
    price: float
    class Settings:
        name = "mig_goods"

class New(Document):
    sku: str
    price: float
    user_id: int
    class Settings:
        name = "mig_goods"

class Forward:
    @iterative_migration()
    async def number(self, input_document: Old, output_document: New):
        output_document.user_id = 7
        {fail}

class Backward:
    @iterative_migration()
    async def number(self, input_document: New, output_document: Old):
        output_document.price = 0.0
"""


async def test_beanies_own_migrations(mongodb_url: str, federate: Federate, tmp_path: Path) -> None:
    """Documents are changed by the classes that Beanie itself would run; one that fails changes none."""
    async with federate(mig_goods=mongodb_url) as fed:
        migrate, first = await begun(fed)
        await migrate.upgrade()
        store: Any = fed.stores[SERVICE]
        documents = store.own_database()[COLLECTION]
        await documents.insert_many([{"sku": str(number), "price": 1.5} for number in range(3)])
        write(tmp_path, "3_number", BEANIE.replace("{fail}", "if input_document.sku == '2': raise ValueError('no 2')"))
        with pytest.raises(MigrationFailedError, match=f"no 2.*mig_goods is at {first}"):
            await migrate.upgrade()
        assert await documents.count_documents({"user_id": 7}) == 0
        write(tmp_path, "3_number", BEANIE.replace("{fail}", ""))
        assert await migrate.upgrade() == {SERVICE: ["3_number"]}
        assert await documents.count_documents({"user_id": 7, "price": 1.5}) == 3
        assert await migrate.downgrade(SERVICE, first) == {SERVICE: ["3_number"]}
        assert await documents.count_documents({"price": 0.0}) == 3


async def test_names_of_revisions(mongodb_url: str, federate: Federate, tmp_path: Path) -> None:
    """The beginning of a name is enough where it is one's alone; others are refused, and nothing is done."""
    async with federate(mig_goods=mongodb_url) as fed:
        fed.migrate.init()
        for name in ("1_a", "12_b", "2_c"):
            write(tmp_path, name, "class Forward: ...\n")
        migrate = fed.migrate
        with pytest.raises(MigrationError, match="several revisions begin with '1'"):
            await migrate.upgrade(SERVICE, "1")
        with pytest.raises(MigrationError, match="there is no revision 'x'"):
            await migrate.upgrade(SERVICE, "x")
        with pytest.raises(MigrationError, match="leads out of its history"):
            await migrate.downgrade(SERVICE, "-1")
        assert await migrate.upgrade(SERVICE, "12") == {SERVICE: ["12_b"]}
        assert await migrate.upgrade(SERVICE, "+1") == {SERVICE: ["1_a"]}
        assert await migrate.current() == {SERVICE: ["1_a"]}
        await migrate.stamp(SERVICE, "head")
        assert await migrate.current() == {SERVICE: ["2_c"]}
        with pytest.raises(MigrationError, match="no SQL"):
            await migrate.sql(SERVICE)


async def test_an_unknown_revision(mongodb_url: str, federate: Federate, tmp_path: Path) -> None:
    """A database at a revision that the folder does not have is left alone; stamp says where it stands."""
    async with federate(mig_goods=mongodb_url) as fed:
        fed.migrate.init()
        write(tmp_path, "1_a", "class Forward: ...\n")
        await fed.migrate.upgrade()
        (tmp_path / "migrations" / SERVICE / "versions" / "1_a.py").rename(
            tmp_path / "migrations" / SERVICE / "versions" / "1_b.py"
        )
        with pytest.raises(MigrationError, match=r"is at revision 1_a, which .* does not have"):
            await fed.migrate.upgrade()
        await fed.migrate.stamp(SERVICE, "1_b")
        assert await fed.migrate.upgrade() == {SERVICE: []}
