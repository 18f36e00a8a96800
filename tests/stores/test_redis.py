"""Redis passes the store compliance suite."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from typer.testing import CliRunner

from fedorm import (
    AuthenticationError,
    DocumentValidationError,
    DuplicateKeyError,
    Federation,
    FederationOpenError,
    ServiceUnavailableError,
    StaleDocumentError,
    TLSError,
)
from fedorm.cli.app import app
from fedorm.testing.compliance import Outage, ServerOutage, StoreSuite
from fedorm.testing.servers import RedisServer
from fedorm.testing.servers.processes import free_port
from fedorm.testing.tls import make_certificates
from tests.stores.redis_models import BasketNote, BasketOwner
from tests.test_docs_pages import blocks
from tests.test_readme import run


class TestRedis(StoreSuite):
    settings = {"connect_timeout": 2}

    @pytest.fixture
    def url(self, empty_redis_url: str) -> str:
        return empty_redis_url

    @pytest.fixture
    def outage(self) -> Iterator[Outage]:
        with RedisServer(durable=True) as server:
            yield ServerOutage(server, server.url())


async def test_many_at_one_key(empty_redis_url: str) -> None:
    """Of those that add one id, one does; of changes of one text none is lost, as who comes too late reads again."""
    async with Federation({"baskets": {"url": empty_redis_url, "pool_size": 20}}) as fed:
        refused = 0

        async def add() -> None:
            nonlocal refused
            async with fed.session() as session:
                session.add(BasketNote(id=1, text="0"))
                try:
                    await session.commit()
                except DuplicateKeyError:
                    refused += 1

        async def count() -> None:
            while True:
                async with fed.session() as session:
                    note = await session.get(BasketNote, 1)
                    assert note is not None
                    note.text = str(int(note.text) + 1)
                    with suppress(StaleDocumentError):
                        await session.commit()
                        return

        await asyncio.gather(*(add() for _ in range(20)))
        assert refused == 19
        await asyncio.gather(*(count() for _ in range(20)))
        async with fed.session() as session:
            assert (await session.get(BasketNote, 1)).text == "20"


def test_the_page(tmp_path: Path) -> None:
    """The program prints what is printed below it."""
    (program,), (expected,) = blocks("redis.md", "python"), blocks("redis.md", "text")
    assert run(program, tmp_path) == expected


async def test_tls(tmp_path: Path) -> None:
    """The right authority, and a client's certificate, are taken; others, and plain text, are not."""
    made = make_certificates(tmp_path)
    told: list[str] = []
    with RedisServer(tls=made) as server:

        async def opens(url: str, tls: Any) -> BaseException | None:
            try:
                async with Federation({"vault": {"url": url, "tls": tls, "connect_timeout": 2}}):
                    return None
            except FederationOpenError as error:
                told.append(str(error))
                return error.failures["vault"]

        url, client = server.url(), {"cert": str(made.client_cert), "key": str(made.client_key)}
        assert await opens(url, {"ca": str(made.ca)}) is None
        assert await opens(url, {"ca": str(made.ca), **client}) is None
        assert await opens(url, {"verify": False}) is None
        assert await opens(f"rediss{url.removeprefix('redis')}?ssl_ca_certs={made.ca}", None) is None
        assert isinstance(await opens(url, {"ca": str(made.other_ca)}), TLSError)
        assert isinstance(await opens(url, True), TLSError)
        assert isinstance(await opens(f"rediss{url.removeprefix('redis')}", None), TLSError)
        assert isinstance(await opens(url, None), ServiceUnavailableError)
        assert server.password not in "".join(told)


async def test_many_texts_at_once(empty_redis_url: str) -> None:
    """They come joined, those that are not there and one that is no JSON included; also where scripts are forbidden."""
    with Redis.from_url(empty_redis_url) as client:
        client.acl_setuser("plain", enabled=True, passwords=["+own"], keys=["*"], commands=["+@all", "-@scripting"])
        async with Federation({"baskets": empty_redis_url}) as fed, fed.session() as session:
            session.add_all([BasketNote(id=number, text=f"t{number}") for number in range(0, 2500, 2)])
            await session.commit()
        for url in (empty_redis_url, re.sub("//:[^@]*@", "//plain:own@", empty_redis_url)):
            async with Federation({"baskets": url}) as fed:
                found = await fed.stores["baskets"].find_keys(BasketNote, ["id"], [(one,) for one in range(2500)])
                assert [raw["id"] for raw in found] == list(range(0, 2500, 2))
        client.set("basket_note:5", b'\0{"id":5}')
        async with Federation({"baskets": empty_redis_url}) as fed:
            store = fed.stores["baskets"]
            found = await store.find_keys(BasketNote, ["id"], [(one,) for one in range(2500)])
            assert [store.parse(BasketNote, raw).text for raw in found if raw["id"] != 5] == [
                f"t{number}" for number in range(0, 2500, 2)
            ]
            with pytest.raises(DocumentValidationError, match="service 'baskets', document BasketNote 5"):
                store.parse_many(BasketNote, found)
        client.acl_deluser("plain")


@pytest.mark.parametrize(
    ("texts", "bad"),
    [
        ([b'{"id":1,"text":"a"},{"id":2,"text":"b"}', b'{"id":3,"text":"c"}'], 1),
        ([b'{"id":1,"text":"a"}', b'{"id":2,"text":"b"},{"id":3,"text":"c"}'], 2),
        ([b'{"id":1,"text":"a","more":"', b'"},{"id":2,"text":"b"}'], 1),
        ([b'{"id":1,"text":"a"}', b""], 2),
        ([b'{"id":1,"text":"a"}', b'{"id":2,"text":[]}'], 2),
    ],
)
async def test_texts_that_are_no_records(empty_redis_url: str, texts: list[bytes], bad: int) -> None:
    """They are read together, and still the one that is none is named."""
    with Redis.from_url(empty_redis_url) as client:
        for number, text in enumerate(texts, 1):
            client.set(f"basket_note:{number}", text)
    async with Federation({"baskets": empty_redis_url}) as fed, fed.session() as session:
        with pytest.raises(DocumentValidationError, match=f"service 'baskets', document BasketNote {bad}"):
            await session.find(BasketNote, {"id": {1, 2}}).to_list()


async def test_records_that_are_made_as_they_come(empty_redis_url: str) -> None:
    """Related to many objects: those that the session has, are not there, and are no records, among them."""
    async with Federation({"baskets": empty_redis_url, "basket_owners": "sqlite+aiosqlite://"}) as fed:
        async with fed.session() as session:
            session.add_all([BasketNote(id=number, text=f"t{number}", tags={"a"}) for number in range(0, 2500, 2)])
            await session.commit()
        async with fed.session() as session:
            mine, gone = await session.get(BasketNote, 4), await session.get(BasketNote, 1000)
            mine.text = "mine"
            await session.delete(gone)
            owners = [BasketOwner(id=number, name="") for number in range(2500)]
            await session.load(owners, BasketOwner.note)
            texts = {owner.id: owner.note and owner.note.text for owner in owners}
            there = {number: f"t{number}" for number in range(0, 2500, 2)} | {4: "mine"}
            assert texts == dict.fromkeys(range(2500)) | there | {1000: None}
            assert owners[4].note is mine
            assert not session.dirty
            owners[6].note.tags.add("b")
            await session.commit()
        with Redis.from_url(empty_redis_url) as client:
            kept = [json.loads(client.get(f"basket_note:{number}") or b"{}") for number in (4, 6, 8, 1000)]
            assert [(one.get("text"), sorted(one.get("tags", []))) for one in kept] == [
                ("mine", ["a"]), ("t6", ["a", "b"]), ("t8", ["a"]), (None, [])
            ]  # fmt: skip
            client.set("basket_note:2400", b'{"id":2400}')
        async with fed.session() as session:
            with pytest.raises(DocumentValidationError, match="service 'baskets', document BasketNote 2400"):
                await session.load(owners, BasketOwner.note)


async def test_a_key_that_says_another_id_than_its_text(empty_redis_url: str) -> None:
    """The key is right, as by it the record is found and written."""
    with Redis.from_url(empty_redis_url) as client:
        client.set("basket_note:1", b'{"id":2,"text":"a"}')
        client.set("basket_note:2", b'{"id":1,"text":"b"}')
    async with Federation({"baskets": empty_redis_url}) as fed, fed.session() as session:
        found = await session.find(BasketNote, {"id": {1, 2}}).sort("id").to_list()
        assert [(note.id, note.text) for note in found] == [(1, "a"), (2, "b")]


def test_doctor(empty_redis_url: str, tmp_path: Path) -> None:
    """It is up; or it says why not, and never the password."""
    away = f"rediss://:hidden@127.0.0.1:{free_port()}/0"
    wrong = re.sub(r":[^:@]+@", ":hidden@", empty_redis_url)
    for name, url in (("up", empty_redis_url), ("away", away), ("wrong", wrong), ("odd", "redis://:hidden@host:x/0")):
        (tmp_path / f"{name}.toml").write_text(f'[services.baskets]\nurl = "{url}"\nconnect_timeout = 2\n')
    found = {}
    for name in ("up", "away", "wrong", "odd"):
        result = CliRunner().invoke(app, ["--config", str(tmp_path / f"{name}.toml"), "doctor", "--format", "json"])
        assert "hidden" not in result.output
        assert result.exit_code == (0 if name == "up" else 1)
        found[name] = result.output
    assert json.loads(found["up"])["state"] == "up"
    assert "service 'baskets' at rediss://" in found["away"]
    assert "invalid username-password pair" in found["wrong"]
    assert "is not usable" in found["odd"] or "port" in found["odd"].lower()


async def test_who_does_not_answer(empty_redis_url: str) -> None:
    """A wrong password and a server that is not there are told apart."""
    wrong = Federation({"baskets": re.sub(r":[^:@]+@", ":hidden@", empty_redis_url)})
    away = Federation({"baskets": f"redis://127.0.0.1:{free_port()}"})
    for fed, kind in ((wrong, AuthenticationError), (away, ServiceUnavailableError)):
        with pytest.raises(FederationOpenError) as raised:
            await fed.open()
        assert type(raised.value.failures["baskets"]) is kind
        assert "hidden" not in str(raised.value)
