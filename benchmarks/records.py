"""Records of Redis that rows are related to, against redis-py's own pipelines for their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from benchmarks.measure import Pair, pair
from fedorm import Federated, FederatedRecord, Federation, federated_relationship
from fedorm.testing.servers import RedisServer

KEYS = 10_000


class HashRecord(FederatedRecord):
    __service__ = "bench_records"
    id: int
    owner: str
    total: float
    items: int
    note: str | None = None

    class Settings:
        name = "hash"


class TextRecord(HashRecord):
    class Settings:
        name = "text"
        format = "json"


class RecordLink(FederatedRecord):
    """What points to them; kept in memory alone."""

    __service__ = "bench_records"
    id: int
    hash_record: Federated[HashRecord] = federated_relationship(local_key="id")
    text_record: Federated[TextRecord] = federated_relationship(local_key="id")


@dataclass(frozen=True)
class Bench:
    """A federation of one Redis, and redis-py's own client of it."""

    fed: Federation
    own: Redis
    links: list[RecordLink]


@asynccontextmanager
async def opened(server: RedisServer) -> AsyncIterator[Bench]:
    """Write the records."""
    async with Federation({"bench_records": server.url()}) as fed:
        for model in (HashRecord, TextRecord):
            async with fed.session() as session:
                session.add_all(
                    [
                        model(id=number, owner=f"owner {number}", total=number / 4, items=number % 7, note="x" * 20)
                        for number in range(KEYS)
                    ]
                )
                await session.commit()
        async with Redis.from_url(server.url()) as own:
            yield Bench(fed, own, [RecordLink(id=number) for number in range(KEYS)])


async def _load(bench: Bench, attribute: Any) -> None:
    async with bench.fed.session() as session:
        await session.load(bench.links, attribute)
    assert getattr(bench.links[-1], attribute.key).owner == f"owner {KEYS - 1}"


async def hashes(bench: Bench, rounds: int) -> Pair:
    """A relationship to hashes, and HGETALL for each key in one pipeline."""

    async def pipelined() -> None:
        async with bench.own.pipeline(transaction=False) as pipeline:
            for number in range(KEYS):
                pipeline.hgetall(f"hash:{number}")
            assert len(await pipeline.execute()) == KEYS

    return await pair(lambda: _load(bench, RecordLink.hash_record), pipelined, rounds=rounds)


async def texts(bench: Bench, rounds: int) -> Pair:
    """A relationship to JSON texts, and one MGET, which leaves them texts."""

    async def pipelined() -> None:
        async with bench.own.pipeline(transaction=False) as pipeline:
            pipeline.mget([f"text:{number}" for number in range(KEYS)])
            (found,) = await pipeline.execute()
            assert len(found) == KEYS

    return await pair(lambda: _load(bench, RecordLink.text_record), pipelined, rounds=rounds)


async def section(rounds: int) -> list[str]:
    """Run both, and return the page's section."""
    with RedisServer() as server:
        async with opened(server) as bench:
            lines = [
                f"| {what} | {measured.shown()} | 1.3 |"
                for what, measured in (
                    ("10,000 keys related to hashes; a pipeline of HGETALL", await hashes(bench, rounds)),
                    ("10,000 keys related to JSON texts; one MGET", await texts(bench, rounds)),
                )
            ]
    print("\n".join(lines), flush=True)
    return [
        "## Records of Redis",
        "",
        "A relationship to records, objects that are validated and in the session, against what redis-py takes for "
        "the same keys alone: dicts of bytes, or texts. Both parse answers in Python, without hiredis. Hashes are "
        "asked for by HMGET of the class's fields; texts come joined by a script, as each answer costs redis-py more "
        "than its JSON costs pydantic, and records are made of a thousand of them while the server joins the next.",
        "",
        "| fedorm; redis-py | fedorm, ms | other, ms | ratio | bar |",
        "| --- | --- | --- | --- | --- |",
        *lines,
    ]
