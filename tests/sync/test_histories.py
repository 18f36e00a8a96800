"""Whatever writers do to a source while a rule is carried out: the target comes to the same rows.

Every pair of stores and every strategy that the source allows. ``FEDORM_HISTORIES`` is how many transactions each
writer makes, ``FEDORM_SEED`` repeats a history as far as the machine lets it.
"""

from __future__ import annotations

import functools
import os
import random
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from fedorm import Federation
from fedorm.sync import CDC, Batch, EventDriven, RealTime, SyncRule
from fedorm.sync.strategies import Strategy
from fedorm.testing.plugin import FreshDatabase
from tests.sync.histories import Appends, History
from tests.sync.ledgers import FIELDS, HAS_CLICKHOUSE, source_model, target_model
from tests.sync.watching import as_kept_by, rows_of, until_equal

needs_clickhouse = pytest.mark.skipif(not HAS_CLICKHOUSE, reason="ClickHouse's driver needs SQLAlchemy below 2.1")
TRANSACTIONS = int(os.environ.get("FEDORM_HISTORIES", "8"))
BIG = 2_000
BIG_DOCUMENTS = 200
"""SecantusDB's transactions take longer with each document that they write."""
WRITERS = 3
KINDS = ("postgresql", "mysql", "sqlite", "mongodb", "clickhouse")
STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "batch": lambda: Batch(every=0.2, page=700),
    # Moments of changes are up to four seconds too old.
    "real-time": lambda: RealTime(poll=0.1, detect_deletes=0.5, page=700, changed="touched", overlap=5.0),
    "event-driven": lambda: EventDriven(page=300),
    "cdc": lambda: CDC(page=300, batch=500),
}
ALLOWED = {
    "batch": KINDS,
    "real-time": KINDS[:4],
    "event-driven": KINDS[:4],
    "cdc": ("postgresql", "mysql", "mongodb"),
}
CASES = [
    (source, target, strategy)
    for strategy, sources in ALLOWED.items()
    for source in sources
    for target in KINDS
    if HAS_CLICKHOUSE or "clickhouse" not in (source, target)
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("source", "target", "strategy"), CASES, ids=["-".join(case) for case in CASES])
async def test_a_target_comes_to_what_its_source_has(
    source: str, target: str, strategy: str, fresh_database: FreshDatabase, tmp_path: Path, no_stray_tasks: None
) -> None:
    """Rows of all types, moved and deleted ones, big and late transactions, and such as are rolled back."""
    seed = os.environ.get("FEDORM_SEED") or secrets.token_hex(4)
    print(f"FEDORM_SEED={seed}")
    near, far = source_model(source, events=strategy == "event-driven"), target_model(target)

    def url(kind: str, name: str) -> str:
        return f"sqlite+aiosqlite:///{tmp_path / name}.db" if kind == "sqlite" else fresh_database(kind)

    urls = {near.__service__: url(source, "near"), far.__service__: url(target, "far")}
    if not {source, target} & {"postgresql", "mysql", "sqlite"}:
        urls["ledger_accounts"] = url("sqlite", "accounts")
    async with Federation(urls) as fed:
        fed.sync.add(SyncRule(source=near, to=far, strategy=STRATEGIES[strategy](), name="ledger"))
        await fed.create_all()
        chance = random.Random(seed)
        big = BIG_DOCUMENTS if source == "mongodb" else BIG
        history = (Appends if source == "clickhouse" else History)(fed, near, source, chance, big=big)
        await history.fill(500 if source != "mongodb" else 100)
        fields = [name for name in FIELDS if "clickhouse" not in (source, target) or name != "extra"]
        read = functools.partial(_read, fed, (source, target), fields)
        async with fed.sync.running(["ledger"]):
            await history.write(writers=WRITERS, transactions=TRANSACTIONS)
            print(f"committed {history.committed}, rolled back {history.rolled_back}, refused {history.refused}")
            rows = await until_equal(lambda: read(near), lambda: read(far))
            assert await fed.sync.dead_letters("ledger") == []
        verified = await fed.sync.verify("ledger")
        assert (verified.equal, verified.rows, verified.differences) == (True, len(rows), [])
        assert len(rows) > big
        assert await read(far) == rows
        assert await fed.sync.dead_letters("ledger") == []


async def _read(fed: Federation, kinds: tuple[str, str], fields: list[str], model: type) -> dict:
    return as_kept_by(kinds, await rows_of(fed, model), fields)


@pytest.mark.parametrize("strategy", ["batch", "real-time", "event-driven"])
@pytest.mark.parametrize("target", ["postgresql", pytest.param("clickhouse", marks=needs_clickhouse)])
async def test_a_transaction_from_before_the_first_look_that_ends_after_it(
    target: str, strategy: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """What it has written, with a moment from before, comes after what the first look has found."""
    near, far = source_model("postgresql", events=strategy == "event-driven"), target_model(target)
    urls = {near.__service__: fresh_database("postgresql"), far.__service__: fresh_database(target)}
    async with Federation(urls) as fed:
        fed.sync.add(SyncRule(source=near, to=far, strategy=STRATEGIES[strategy](), name="ledger"))
        await fed.create_all()
        history = History(fed, near, "postgresql", random.Random(1), big=BIG)
        await history.fill(500)
        read = functools.partial(_read, fed, ("postgresql", target), ["id", "name", "touched"])
        async with fed.session() as late:
            (await late.get(near, 1)).name = "late"
            await late.delete(await late.get(near, 2))
            late.add(near(id=-1, **history.values()))
            await late.flush()
            async with fed.sync.running(["ledger"]):
                await until_equal(lambda: read(near), lambda: read(far))
                await late.commit()
                rows = await until_equal(lambda: read(near), lambda: read(far))
        assert (rows[1]["name"], 2 in rows, -1 in rows) == ("late", False, True)
        assert (await fed.sync.verify("ledger")).equal
