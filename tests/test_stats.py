"""``fed.stats()``: what was asked, what was sent, how long it took."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from fedorm import Federation, StoreError, federated_load
from fedorm.stats import BUCKETS, WINDOW, Latency, Recorder
from tests.models import Order, Payment, Product, User

JOINED = select(User.email, Order.total).join(Order, Order.user_id == User.id)


async def test_a_new_federation_has_done_nothing(fed: Federation) -> None:
    """What opens it, and makes its tables, is no statement of anybody's."""
    async with Federation(dict.fromkeys(("users", "orders"), "sqlite+aiosqlite://")) as new:
        stats = new.stats()
        assert (stats.statements, stats.errors, stats.rows, stats.cross_service) == (0, 0, 0, 0)
        assert (stats.cross_service_share, stats.cache.hit_rate, stats.latency) == (0.0, 0.0, Latency())
        assert {name: service.statements for name, service in stats.services.items()} == {"users": 0, "orders": 0}
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.errors = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        stats.services["users"] = None  # type: ignore[index]


async def test_statements_rows_and_services(fed: Federation) -> None:
    """What sessions were given, and what each service was sent for it."""
    before = fed.stats()
    async with fed.session() as session:
        session.add_all([User(id=n, email=f"u{n}") for n in (1, 2)])
        session.add_all([Order(id=n, user_id=1, total=Decimal(n)) for n in (1, 2, 3)])
        session.add_all([Product(sku=sku, price=1.0) for sku in "abcd"])
        session.add(Payment(order_id=1, amount=Decimal(1)))
        await session.commit()
    written = fed.stats()
    assert written.statements == before.statements
    sent = {
        name: (after.statements - before.services[name].statements, after.rows - before.services[name].rows)
        for name, after in written.services.items()
    }
    assert sent == {
        "users": (1, 2), "orders": (1, 3), "inventory": (1, 4), "payments": (1, 1), "suppliers": (0, 0),
        "analytics": (0, 0),
    }  # fmt: skip
    async with fed.session() as session:
        await session.execute(select(User))
        await session.scalars(select(Order.id))
        await session.find(Product).to_list()
    after = fed.stats()
    assert after.statements - written.statements == 2
    came = {name: one.rows - written.services[name].rows for name, one in after.services.items()}
    assert came == {"users": 2, "orders": 3, "inventory": 4, "payments": 0, "suppliers": 0, "analytics": 0}
    assert after.rows == sum(one.rows for one in after.services.values())


async def test_cross_service_share(fed: Federation) -> None:
    """A select over several services is one, and so is one that loads relationships from others."""
    async with fed.session() as session:
        session.add_all([User(id=1, email="u"), Order(id=1, user_id=1)])
        await session.commit()
        await session.execute(select(User.id))
        await session.execute(text("select id from users.users"))
        await session.execute(JOINED)
        await session.scalars(select(Order).options(federated_load(Order.user)))
        stats = fed.stats()
        assert (stats.statements, stats.cross_service, stats.cross_service_share) == (4, 2, 0.5)
        assert (await session.arrow(JOINED)).num_rows == 1
        await session.execute(JOINED, execution_options={"cache_ttl": 60})
        await session.execute(JOINED, execution_options={"cache_ttl": 60})
    stats = fed.stats()
    assert (stats.statements, stats.cross_service, stats.cache.hits) == (7, 5, 1)


async def test_errors(fed: Federation) -> None:
    """Of the service that made them, and of the statement."""
    async with fed.session() as session:
        for _ in range(2):
            with pytest.raises(DBAPIError):
                await session.execute(text("SELECT nothing FROM users"), bind_arguments={"service": "users"})
            await session.rollback()
        with pytest.raises(StoreError, match="nonsense"):
            await session.find(Product).aggregate([{"$nonsense": {}}]).to_list()
    stats = fed.stats()
    assert stats.errors == 2
    assert {name: one.errors for name, one in stats.services.items() if one.errors} == {"users": 2, "inventory": 1}


def test_threads(urls: dict[str, str]) -> None:
    """Both kinds of sessions are counted together."""
    with Federation({"users": urls["users"], "payments": urls["payments"]}) as fed:
        with fed.sync_session() as session:
            session.execute(text("SELECT generate_series(1, 7)"), bind_arguments={"service": "users"}).all()
            session.execute(text("SELECT 1"), bind_arguments={"service": "payments"}).all()
        stats = fed.stats()
        assert (stats.statements, stats.rows) == (2, 8)
        assert {name: one.rows for name, one in stats.services.items()} == {"users": 7, "payments": 1}


async def test_sqlite_counts_its_rows(tmp_path: Path) -> None:
    """Its drivers do not say how many there are; they are counted as they are fetched."""
    with Federation({"users": f"sqlite+aiosqlite:///{tmp_path / 'u.db'}"}) as fed:
        with fed.sync_session() as session:
            rows = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT i FROM n")
            assert len(session.execute(rows, bind_arguments={"service": "users"}).all()) == 9
            assert session.execute(rows, bind_arguments={"service": "users"}).first() == (1,)
        assert fed.stats().rows == 10
    async with Federation({"users": f"sqlite+aiosqlite:///{tmp_path / 'u.db'}"}) as fed:
        async with fed.session() as session:
            await session.execute(rows, bind_arguments={"service": "users"})
        assert fed.stats().rows == 9


@given(st.lists(st.floats(min_value=0, max_value=20), min_size=1, max_size=200))
def test_figures_of_the_window(times: list[float]) -> None:
    """Average, ends and percentiles (nearest rank), in milliseconds; the histogram counts each time once."""
    recorder = Recorder()
    for seconds in times:
        recorder.done(seconds, rows=2)
    figures, ordered = recorder.latency(), sorted(times)
    assert figures.min == ordered[0] * 1000
    assert figures.max == ordered[-1] * 1000
    assert figures.avg == pytest.approx(sum(times) / len(times) * 1000)
    for share, value in ((50, figures.p50), (95, figures.p95), (99, figures.p99)):
        assert sum(seconds * 1000 <= value for seconds in ordered) * 100 >= share * len(ordered)
        assert sum(seconds * 1000 < value for seconds in ordered) * 100 < share * len(ordered)
    histogram = recorder.histogram()
    for bound, number in zip(BUCKETS, accumulated(histogram.counts), strict=False):
        assert number == sum(seconds <= bound for seconds in times)
    assert sum(histogram.counts) == recorder.statements == len(times)
    assert recorder.rows == 2 * len(times)


def accumulated(counts: tuple[int, ...]) -> Iterator[int]:
    total = 0
    for number in counts:
        total += number
        yield total


def test_the_window_is_bounded() -> None:
    """What has left it is still counted, and in the histogram."""
    recorder = Recorder()
    recorder.failed(100.0)
    for _ in range(WINDOW):
        recorder.done(0.001)
    assert recorder.latency() == Latency(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert (recorder.statements, recorder.errors) == (WINDOW + 1, 1)
    assert recorder.histogram().counts[-1] == 1
    assert recorder.histogram().seconds == pytest.approx(100.0 + WINDOW / 1000)
