"""Figures for Prometheus and spans for OpenTelemetry, read by their own tools."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, text
from sqlalchemy.exc import DBAPIError

from fedorm import Federation, federated_load, telemetry
from fedorm.telemetry import without_values
from tests.models import Order, Product, User
from tests.test_cache import CACHED, ask, shop

pytest.importorskip("prometheus_client")
pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["shop"]

JOINED = select(User.email, Order.total).join(Order, Order.user_id == User.id).where(User.country == "s3cret")


def samples(registry: CollectorRegistry) -> dict[tuple[Any, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


async def test_metrics(shop: Federation) -> None:
    """Counters and histograms say what ``stats()`` says, in Prometheus's text."""
    registry = CollectorRegistry()
    telemetry.register(shop, registry, labels={"federation": "shop"})
    for _ in range(2):
        await ask(shop, select(User.id))
    async with shop.session() as session:
        with pytest.raises(DBAPIError):
            await session.execute(text("SELECT nothing FROM users"), bind_arguments={"service": "users"})
        await session.rollback()
        await session.execute(JOINED)
    stats, found = shop.stats(), samples(registry)
    label = ("federation", "shop")
    for name, value in {
        "fedorm_statements_total": 4,
        "fedorm_statement_errors_total": 1,
        "fedorm_cross_service_statements_total": 1,
        "fedorm_cache_hits_total": 1,
        "fedorm_cache_misses_total": 1,
        "fedorm_cache_evictions_total": 0,
        "fedorm_cache_entries": 1,
        "fedorm_statement_seconds_count": 4,
        "fedorm_statement_seconds_sum": stats.histogram.seconds,
    }.items():
        assert found[(name, label)] == value
    assert found[("fedorm_statement_seconds_bucket", label, ("le", "+Inf"))] == 4
    for name, one in stats.services.items():
        labels = (label, ("service", name))
        assert found[("fedorm_service_statements_total", *labels)] == one.statements
        assert found[("fedorm_service_errors_total", *labels)] == one.errors
        assert found[("fedorm_service_rows_total", *labels)] == one.rows
        assert found[("fedorm_service_seconds_count", *labels)] == one.statements
        assert found[("fedorm_service_seconds_sum", *labels)] == one.histogram.seconds
    buckets = [value for key, value in found.items() if key[:2] == ("fedorm_statement_seconds_bucket", label)]
    assert buckets == sorted(buckets)
    assert len(buckets) == 15


async def test_two_federations_in_one_registry(shop: Federation) -> None:
    """Their labels tell them apart, and one can be taken out again."""
    registry = CollectorRegistry()
    async with Federation({"users": "sqlite+aiosqlite://"}) as other:
        telemetry.register(shop, registry, labels={"federation": "shop"})
        second = telemetry.register(other, registry, labels={"federation": "other"})
        names = {key[1][1] for key in samples(registry) if key[0] == "fedorm_statements_total"}
        assert names == {"shop", "other"}
        registry.unregister(second)
        names = {key[1][1] for key in samples(registry) if key[0] == "fedorm_statements_total"}
        assert names == {"shop"}


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    exporter.shutdown()


@pytest.fixture
async def traced(shop: Federation, exporter: InMemorySpanExporter) -> Federation:
    async with shop.session() as session:
        await session.execute(JOINED)  # What the planner asks once is not a part of what is shown here.
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.trace(shop, provider)
    return shop


def tree(spans: tuple[ReadableSpan, ...]) -> list[tuple[str, list[str]]]:
    """Return the spans without a parent in their order, each with the names of its children."""
    known = {span.context.span_id: span for span in spans if span.context is not None}
    roots = [span for span in spans if span.parent is None]
    below: dict[int, list[str]] = {}
    for span in spans:
        if span.parent is not None:
            assert span.parent.span_id in known
            below.setdefault(span.parent.span_id, []).append(span.name)
    return [(root.name, sorted(below.get(root.context.span_id, []))) for root in roots if root.context is not None]


def told(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_one_service(traced: Federation, exporter: InMemorySpanExporter) -> None:
    """A span of the statement, and one of what its service was sent, with placeholders and rows."""
    async with traced.session() as session:
        await session.execute(select(User.email).where(User.email != "s3cret"))
    spans = exporter.get_finished_spans()
    assert tree(spans) == [("fedorm.statement", ["fedorm.step users"])]
    step, statement = spans
    assert (step.kind, statement.kind) == (SpanKind.CLIENT, SpanKind.INTERNAL)
    assert told(step) == {
        "fedorm.service": "users",
        "fedorm.step": "statement",
        "db.query.text": "SELECT users.email \nFROM users \nWHERE users.email != $1::VARCHAR",
        "db.response.returned_rows": 2,
    }
    assert told(statement) == {"db.query.text": "SELECT users.email \nFROM users \nWHERE users.email != :email_1"}


async def test_several_services(traced: Federation, exporter: InMemorySpanExporter) -> None:
    """One child a step, whatever it takes to answer it; no value in any of them."""
    async with traced.session() as session:
        await session.execute(JOINED)
        await session.execute(text("select o.id from orders.orders o join users.users u on u.country = 's3cret'"))
    spans = exporter.get_finished_spans()
    assert tree(spans) == [("fedorm.statement", ["fedorm.step orders", "fedorm.step users"])] * 2
    steps = [told(span) for span in spans if span.kind is SpanKind.CLIENT]
    assert all(isinstance(one["db.response.returned_rows"], int) for one in steps)
    assert all("users" in one["db.query.text"] or "orders" in one["db.query.text"] for one in steps)
    assert "s3cret" not in "".join(span.to_json() for span in spans)


async def test_relationships_and_writes(traced: Federation, exporter: InMemorySpanExporter) -> None:
    """What loads a relationship is below its statement; what a flush writes is below nothing of fedorm's."""
    async with traced.session() as session:
        await session.scalars(select(Order).options(federated_load(Order.user)))
        session.add(User(id=9, email="s3cret"))
        await session.commit()
    spans = exporter.get_finished_spans()
    assert tree(spans) == [
        ("fedorm.statement", ["fedorm.step orders", "fedorm.step users"]),
        ("fedorm.step users", []),
    ]
    assert told(spans[-1])["db.query.text"].startswith("INSERT INTO users (id, email, country) VALUES ($1")
    assert told(spans[-1])["db.response.returned_rows"] == 1
    assert "s3cret" not in "".join(span.to_json() for span in spans)


async def test_errors_are_told_without_their_text(traced: Federation, exporter: InMemorySpanExporter) -> None:
    """The error's class is the status; what the server says may repeat a value."""
    wrong = text("SELECT id FROM users WHERE email::integer = 's3cret'::integer AND id = :id")
    async with traced.session() as session:
        with pytest.raises(DBAPIError):
            await session.execute(wrong, {"id": 1}, bind_arguments={"service": "users"})
        await session.rollback()
        with pytest.raises(DBAPIError):
            await session.execute(insert(User).values(id=1, email="s3cret"))
        await session.rollback()
    spans = exporter.get_finished_spans()
    assert len(spans) == 4
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR] * 4
    assert all(told(span)["error.type"] for span in spans)
    assert "s3cret" not in "".join(span.to_json() for span in spans)


async def test_a_hit_sends_nothing(traced: Federation, exporter: InMemorySpanExporter) -> None:
    """Its statement has a span without a step."""
    async with traced.session() as session:
        for _ in range(2):
            await session.execute(select(User.id), execution_options=CACHED)
    assert tree(exporter.get_finished_spans()) == [
        ("fedorm.statement", ["fedorm.step users"]),
        ("fedorm.statement", []),
    ]


def test_threads(urls: dict[str, str], exporter: InMemorySpanExporter) -> None:
    """A statement's spans belong together there, too."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with Federation({name: urls[name] for name in ("users", "orders", "payments")}) as fed:
        with fed.sync_session() as session:
            for service in ("users", "orders"):
                session.execute(
                    text("CREATE TABLE orders (id int, user_id int, total int)"), bind_arguments={"service": service}
                )
            session.commit()
        telemetry.trace(fed, provider)
        with fed.sync_session() as session, provider.get_tracer("mine").start_as_current_span("request"):
            session.execute(text("SELECT 1 FROM orders"), bind_arguments={"service": "orders"})
    assert [span.name for span in exporter.get_finished_spans()] == [
        "fedorm.step orders",
        "fedorm.statement",
        "request",
    ]
    assert len({span.context.trace_id for span in exporter.get_finished_spans() if span.context}) == 1


SET_BEFORE = """
import asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text
from fedorm import Federation

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))

async def main():
    for number in range(2):
        async with Federation({"users": "sqlite+aiosqlite://"}) as fed, fed.session() as session:
            await session.execute(text("SELECT 1"), bind_arguments={"service": "users"})
            print(len(exporter.get_finished_spans()))
        trace.set_tracer_provider(provider)

asyncio.run(main())
"""


def test_a_process_that_traces_needs_to_say_nothing() -> None:
    """A tracer provider that was set before the federation is opened is used, and without one nothing is."""
    done = subprocess.run([sys.executable, "-c", SET_BEFORE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0", "2"]


def test_nothing_is_imported_without_need() -> None:
    """A federation imports neither package, nor Redis's."""
    code = (
        "import sys, fedorm.telemetry; from fedorm import Federation; fed = Federation({'a': 'sqlite+aiosqlite://'});"
        "fed.__enter__(); fed.stats(); fed.__exit__(None, None, None);"
        "print([name for name in ('opentelemetry', 'prometheus_client', 'redis', 'dogpile') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT a FROM t1 WHERE x = 'se''cret' AND y = 5", "SELECT a FROM t1 WHERE x = ? AND y = ?"),
        ("SELECT $1::INTEGER, %(id_1)s, :id_2, ?", "SELECT $1::INTEGER, %(id_1)s, :id_2, ?"),
        ('SELECT "o 1"."t2", `x 3` FROM "a""b" LIMIT 10', 'SELECT "o 1"."t2", `x 3` FROM "a""b" LIMIT ?'),
        ("VALUES (-1.5e3, .5, DATE '2024-01-01')", "VALUES (-?, ?, DATE ?)"),
        (r"SELECT E'it\'s s3cret', 'x'", "SELECT E?..."),
        ("SELECT $$s3cret$$, $tag$s3cret$tag$", "SELECT ?..."),
        ("SELECT 1 -- don't\n, 's3cret'", "SELECT ? ?..."),
        ("SELECT 1 /* 's3cret' */", "SELECT ? ?..."),
    ],
)
def test_values_written_into_a_text(sql: str, shown: str) -> None:
    """They are not shown; where it cannot be told what is one, nothing after it is."""
    assert without_values(sql) == shown


async def test_strings_of_mysql(traced: Federation, exporter: InMemorySpanExporter) -> None:
    """There double quotes enclose texts."""
    async with traced.session() as session:
        statement = text('SELECT "s3cret", `id` FROM `tags` WHERE `name` = :name').bindparams(
            bindparam("name", "s3cret")
        )
        await session.execute(statement, bind_arguments={"service": "payments"})
    step, _ = exporter.get_finished_spans()
    assert told(step)["db.query.text"] == "SELECT ?, `id` FROM `tags` WHERE `name` = %s"


async def test_documents(traced: Federation, exporter: InMemorySpanExporter) -> None:
    """A step that reads documents says so, without the values it looks for."""
    async with traced.session() as session:
        session.add(Order(id=7, total=Decimal(1)))
        both = select(Product.c.sku, User.email).join(User, User.id == 1).where(Product.c.sku == "s3cret")
        await session.execute(both)
    spans = exporter.get_finished_spans()
    assert tree(spans)[-1] == ("fedorm.statement", ["fedorm.step inventory", "fedorm.step orders", "fedorm.step users"])
    assert "s3cret" not in "".join(span.to_json() for span in spans)


async def test_steps_that_overlap(traced: Federation, exporter: InMemorySpanExporter) -> None:
    """One that is read while others run is their sibling; what it sends is a part of it."""
    observer = traced.meter.observer
    with observer.statement(lambda: "all"), observer.step("users", "s0", lambda: "first"):
        async with traced.session() as session:
            await session.execute(select(User.id))
        with observer.step("orders", "s1", lambda: "second") as seen:
            seen.rows = 3
    spans = exporter.get_finished_spans()
    by_text = {told(span)["db.query.text"]: span for span in spans}
    assert by_text["first"].parent == by_text["second"].parent == by_text["all"].context
    assert told(by_text["second"])["db.response.returned_rows"] == 3
    assert [span.name for span in spans].count("fedorm.step users") == 1
