"""The history of a search index, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from elasticsearch.dsl import Integer, Keyword, Text
from pydantic.fields import FieldInfo

from fedorm import FederatedSearchDocument, Federation
from fedorm.migrate import Drift, MigrationError, Migrations
from fedorm.stores.elasticsearch_mapping import fields_of
from tests.migrate.conftest import Federate

SERVICE, INDEX = "mig_texts", "mig_texts"


class MigratedText(FederatedSearchDocument):
    __service__ = SERVICE
    id: int
    title: Annotated[str, Text(analyzer="english")]
    size: Annotated[int | None, Integer()] = None

    class Index:
        name = INDEX
        settings = {"number_of_shards": 1, "refresh_interval": "1s"}
        template = f"{INDEX}_*"


class Changed:
    """A model whose fields a test changes, as somebody would in its file."""

    def field(self, name: str, annotation: Any) -> None:
        """Give it a field."""
        MigratedText.model_fields[name] = FieldInfo.from_annotation(annotation)
        fields_of.cache_clear()


@pytest.fixture
def model() -> Iterator[Changed]:
    before, settings = dict(MigratedText.model_fields), dict(MigratedText.Index.settings)
    yield Changed()
    MigratedText.model_fields.clear()
    MigratedText.model_fields.update(before)
    MigratedText.Index.settings = settings
    fields_of.cache_clear()


def client_of(fed: Federation) -> tuple[Any, str]:
    store: Any = fed.stores[SERVICE]
    return store.client(sync=False), store.prefix


async def begun(fed: Federation) -> tuple[Migrations, str]:
    """A history with one revision, which makes all that the models declare."""
    fed.migrate.init()
    path = await fed.migrate.revision(SERVICE, "Make all", autogenerate=True)
    assert path is not None
    return fed.migrate, path.stem


async def test_a_history_from_models(elasticsearch_url: str, federate: Federate) -> None:
    """Autogenerate finds indices, mappings, settings and templates; a downgrade leaves nothing."""
    async with federate(mig_texts=elasticsearch_url) as fed:
        migrate, revision = await begun(fed)
        assert [one.what for one in await migrate.check()] == [
            f"the database is at base, the newest revision is {revision}: "
            f"run  fedorm migrate upgrade --service {SERVICE}",
            "the index is not there",
        ]
        assert await migrate.upgrade() == {SERVICE: [revision]}
        assert await migrate.check() == []
        assert await migrate.current() == {SERVICE: [revision]}
        assert await migrate.revision(SERVICE, "nothing", autogenerate=True) is None
        assert await migrate.upgrade() == {SERVICE: []}
        client, prefix = client_of(fed)
        await client.index(index=f"{prefix}{INDEX}_old", id="1", document={"id": 1, "title": "t"})
        made = await client.indices.get_mapping(index=f"{prefix}{INDEX}*")
        title = {"type": "text", "analyzer": "english"}
        assert [one["mappings"]["properties"]["title"] for one in made.values()] == [title, title]
        await client.indices.delete(index=f"{prefix}{INDEX}_old")
        assert await migrate.downgrade(None, "base") == {SERVICE: [revision]}
        assert not await client.indices.exists(index=f"{prefix}{INDEX}")
        assert not await client.indices.exists_index_template(name=f"{prefix}{INDEX}")
        assert await migrate.current() == {SERVICE: []}
        assert await migrate.upgrade() == {SERVICE: [revision]}


async def test_new_fields_and_settings(elasticsearch_url: str, federate: Federate, model: Changed) -> None:
    """They are added to the index that is there; the way back copies documents without them."""
    async with federate(mig_texts=elasticsearch_url) as fed:
        migrate, _ = await begun(fed)
        await migrate.upgrade()
        model.field("isbn", Annotated[str | None, Keyword()])
        MigratedText.Index.settings["refresh_interval"] = "5s"
        assert [(one.table, one.what) for one in await migrate.check()] == [
            (INDEX, "field isbn is not there"),
            (INDEX, "setting refresh_interval is 1s, and 5s in the models"),
        ]
        path = await migrate.revision(SERVICE, "Add isbn", autogenerate=True)
        assert path is not None
        assert "await es.add_fields('mig_texts', {'isbn': {'type': 'keyword'}})" in path.read_text()
        await migrate.upgrade()
        assert await migrate.check() == []
        client, prefix = client_of(fed)
        document = {"id": 1, "title": "t", "isbn": "x"}
        await client.index(index=f"{prefix}{INDEX}", id="1", document=document, version=7, version_type="external")
        await migrate.downgrade(SERVICE, "-1")
        found = await client.get(index=f"{prefix}{INDEX}", id="1")
        assert (found["_source"], found["_version"]) == ({"id": 1, "title": "t"}, 7)
        await migrate.upgrade()
        assert await migrate.check() == []


async def test_a_field_of_another_type(elasticsearch_url: str, federate: Federate, model: Changed) -> None:
    """The index is built anew under the same name, with its documents."""
    async with federate(mig_texts=elasticsearch_url) as fed:
        migrate, _ = await begun(fed)
        await migrate.upgrade()
        async with fed.session() as session:
            session.add_all([MigratedText(id=number, title="t", size=number) for number in range(30)])
            await session.commit()
        model.field("size", Annotated[str | None, Keyword()])
        assert [one.what for one in await migrate.check()] == [
            "field size is {'type': 'integer'}, and {'type': 'keyword'} in the models"
        ]
        path = await migrate.revision(SERVICE, "Let sizes be words", autogenerate=True)
        assert path is not None
        assert "await es.rebuild(\n            'mig_texts',\n            mappings={" in path.read_text()
        await migrate.upgrade()
        assert await migrate.check() == []
        client, prefix = client_of(fed)
        await client.index(index=f"{prefix}{INDEX}", id="x", document={"id": 99, "title": "t", "size": "XL"})
        await client.indices.refresh(index=f"{prefix}{INDEX}")
        assert (await client.count(index=f"{prefix}{INDEX}"))["count"] == 31


async def test_what_nobody_declares(elasticsearch_url: str, federate: Federate) -> None:
    """It is told of, each thing by itself."""
    async with federate(mig_texts=elasticsearch_url) as fed:
        migrate, _ = await begun(fed)
        await migrate.upgrade()
        client, prefix = client_of(fed)
        await client.indices.create(index=f"{prefix}strange")
        await client.indices.put_mapping(index=f"{prefix}{INDEX}", properties={"more": {"type": "long"}})
        await client.indices.delete_index_template(name=f"{prefix}{INDEX}")
        assert await migrate.check() == [
            Drift(SERVICE, INDEX, "no model declares field more"),
            Drift(SERVICE, INDEX, f"its template is for [], and for ['{prefix}{INDEX}_*'] in the models"),
            Drift(SERVICE, "strange", "no model declares the index"),
        ]


async def test_a_file_that_fails(elasticsearch_url: str, federate: Federate, tmp_path: Path) -> None:
    """The revision is not taken for done, and others can migrate afterwards."""
    async with federate(mig_texts=elasticsearch_url) as fed:
        migrate, revision = await begun(fed)
        path = tmp_path / "migrations" / SERVICE / "versions" / "29990101000000_bad.py"
        path.write_text("class Forward:\n    async def change(self, es):\n        await es.add_fields('none', {})\n")
        with pytest.raises(MigrationError, match="index_not_found_exception"):
            await migrate.upgrade()
        assert await migrate.current() == {SERVICE: [revision]}
        path.unlink()
        assert await migrate.downgrade(SERVICE, "base") == {SERVICE: [revision]}
