"""A federated select gives the values, and their classes, that a select of one service gives."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import Select, and_, func, insert, select
from sqlalchemy.orm import aliased

from fedorm import AsyncFederatedSession, Federation
from tests.query.conftest import databases, read_outside, run
from tests.query.samples import MODELS, ROWS, SAMPLES, Label, Sample, rows_of

UTC = datetime.UTC
KINDS = [
    pytest.param(kind, marks=[pytest.mark.clickhouse] if kind in ("clickhouse", "chdb") else []) for kind in SAMPLES
]
every_kind = pytest.mark.parametrize("kind", KINDS)
Places = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def places(fedorm_servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Give the URLs of a store of some kind and of the labels, filled at the first call."""
    made: dict[str, dict[str, str]] = {}
    with databases(fedorm_servers) as make:

        def of(kind: str) -> dict[str, str]:
            if kind not in made:
                folder = tmp_path_factory.mktemp("types")
                files = {"sqlite": f"sqlite+aiosqlite:///{folder / 'service.db'}", "chdb": f"chdb:///{folder / 'chdb'}"}
                made[kind] = {f"type_{kind}": files.get(kind) or make(kind), "type_labels": make("postgresql")}
                run(_fill(kind, made[kind]))
            return made[kind]

        yield of


async def _fill(kind: str, urls: dict[str, str]) -> None:
    async with Federation(urls) as fed:
        await fed.create_all()
        async with fed.session() as session:
            await session.execute(insert(Label), [{"id": n, "label": f"l{n}"} for n in range(ROWS)])
            for row in rows_of(kind):
                await session.execute(insert(MODELS[kind]).values(**row))
            await session.commit()


def exact(value: Any) -> Any:
    """Return something that is equal only for the same value of the same class."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return f"instant {value.astimezone(UTC)!r} at {value.utcoffset()}"
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(exact, value)]
    return repr(value)


def shown(rows: Any) -> list[Any]:
    return [[exact(value) for value in row] for row in rows]


def small(model: Any, name: str) -> Select[Any]:
    """Joined in Python."""
    return _joined(model, name).order_by(model.id)


def by_duckdb(model: Any, name: str) -> Select[Any]:
    """Joined in DuckDB, which alone knows windows."""
    first = func.min(Label.label).over(partition_by=model.id)
    return select(model.id, getattr(model, name), first).join(Label, Label.id == model.id).order_by(model.id + Label.id)


def inner_query(model: Any, name: str) -> Select[Any]:
    """A query that PostgreSQL is asked whole."""
    inner = select(model.id, getattr(model, name)).order_by(model.id).limit(ROWS).subquery()
    return select(inner, Label.label).join(Label, Label.id == inner.c.id).order_by(inner.c.id)


def _joined(model: Any, name: str) -> Select[Any]:
    return select(model.id, getattr(model, name), Label.label).join(Label, Label.id == model.id)


SELECTS = [small, by_duckdb, inner_query]


async def truth(session: AsyncFederatedSession, model: Any, name: str) -> list[tuple[Any, ...]]:
    """Return what a plain select of one service gives."""
    statement = select(model.id, getattr(model, name)).order_by(model.id)
    return [tuple(row) for row in await session.execute(statement)]


def differences(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Return what is not as expected, by name."""
    return {name: (found[name], wanted) for name, wanted in expected.items() if found[name] != wanted}


@every_kind
@pytest.mark.parametrize("way", SELECTS, ids=lambda way: way.__name__)
async def test_selected(places: Places, kind: str, way: Callable[[Any, str], Select[Any]]) -> None:
    """Each column, joined with another service's table."""
    model = MODELS[kind]
    found, expected = {}, {}
    async with Federation(places(kind)) as fed, fed.session() as session:
        for name in SAMPLES[kind]:
            expected[name] = shown([(*row, f"l{row[0]}") for row in await truth(session, model, name)])
            found[name] = shown(await session.execute(way(model, name)))
    assert differences(found, expected) == {}


@every_kind
async def test_selected_beside_each_other(places: Places, kind: str) -> None:
    """Two tables of the service, which some join by themselves, with another service's one."""
    model = MODELS[kind]
    other = aliased(model)
    found, expected = {}, {}
    async with Federation(places(kind)) as fed, fed.session() as session:
        for name in SAMPLES[kind]:
            expected[name] = shown([(*row, row[1], f"l{row[0]}") for row in await truth(session, model, name)])
            columns = model.id, getattr(model, name), getattr(other, name), Label.label
            statement = select(*columns).join(other, other.id == model.id).join(Label, Label.id == model.id)
            found[name] = shown(await session.execute(statement.order_by(model.id)))
    assert differences(found, expected) == {}


BY_SESSION = {
    "data", "binary_data", "span", "long", "colours", "tags", "numbers", "prices", "days", "keys", "grid", "free",
    "hour", "key", "key_text",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_read_by_duckdb(places: Places, kind: str, prefers_scanners: None) -> None:
    """What DuckDB reads over its own connections, and the columns that it leaves to the session."""
    model = MODELS[kind]
    found, expected, outside = {}, {}, set()
    async with Federation(places(kind)) as fed, fed.session() as session:
        for name in SAMPLES[kind]:
            statement = by_duckdb(model, name).execution_options(join_strategy="hash")
            expected[name] = shown([(*row, f"l{row[0]}") for row in await truth(session, model, name)])
            await session.commit()
            found[name] = shown(await session.execute(statement))
            if f"type_{kind}" in read_outside(await session.explain(statement)):
                outside.add(name)
    assert set(SAMPLES[kind]) - outside <= BY_SESSION
    assert differences(found, expected) == {}


@every_kind
async def test_entities(places: Places, kind: str) -> None:
    """All columns of a mapped class at once, by the names of its attributes."""
    model = MODELS[kind]
    names = list(SAMPLES[kind])
    async with Federation(places(kind)) as fed:
        async with fed.session() as session:
            alone = await session.scalars(select(model).order_by(model.id))
            expected = [[getattr(one, name) for name in names] for one in alone]
        async with fed.session() as session:
            joined = select(model, Label).join(Label, Label.id == model.id).order_by(model.id)
            found = [[getattr(one, name) for name in names] for one in await session.scalars(joined)]
    assert shown(found) == shown(expected)


TEXTS, DECIMALS = ("name", "prose", "unicode"), ("price", "rate", "wide", "free")
UNALIKE = {("mysql", name) for name in TEXTS}
"""Texts of MySQL are compared by its collations there, and as PostgreSQL compares them here."""
CLICKHOUSES, FLOATS = ("clickhouse", "chdb"), ("share", "double")


def searchable(sample: Sample) -> list[Any]:
    """Return the values that are equal to themselves."""
    return [one for one in sample.values if not (isinstance(one, float) and math.isnan(one))]


@every_kind
@pytest.mark.parametrize("finish", ["python", "duckdb"])
async def test_parameters(places: Places, kind: str, finish: str) -> None:
    """A value finds the rows that it finds in one service: alone, in a list, as an end."""
    model = MODELS[kind]
    found: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    async with Federation(places(kind)) as fed, fed.session() as session:
        for name, sample in SAMPLES[kind].items():
            if not sample.compares or (kind, name) in UNALIKE:
                continue
            column, values = getattr(model, name), searchable(sample)
            conditions = {"none": column.is_(None), "not": column != values[0]}
            if not (kind == "clickhouse" and name in DECIMALS):  # Old servers refuse such lists.
                conditions["all"] = column.in_(values)
            tried = list(enumerate(values)) if finish == "python" else list(enumerate(values))[1:4:2]
            conditions |= {f"{number}": column == value for number, value in tried}
            if sample.orders:
                conditions |= {f"to {number}": column.between(values[0], value) for number, value in tried[1:]}
            for title, condition in conditions.items():
                alone = select(model.id).where(condition).order_by(model.id)
                joined = select(model.id).join(Label, Label.id == model.id).where(condition).order_by(model.id)
                if finish == "duckdb":
                    late = and_(condition, func.length(Label.label) + model.id > 0) | (model.id + Label.id < 0)
                    joined = select(model.id).join(Label, Label.id == model.id).where(late).order_by(model.id)
                expected[f"{name} {title}"] = list(await session.scalars(alone))
                found[f"{name} {title}"] = list(await session.scalars(joined))
    assert differences(found, expected) == {}


@every_kind
async def test_groups(places: Places, kind: str) -> None:
    """Groups are those of one service, and so is what is counted, and the least and the greatest."""
    model = MODELS[kind]
    found: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    async with Federation(places(kind)) as fed, fed.session() as session:
        for name, sample in SAMPLES[kind].items():
            column = getattr(model, name)
            questions: dict[str, Any] = {"count": [func.count(column)]}
            # For ClickHouse -0.0 is a group of its own, and NaN not the greatest; for PostgreSQL and here it is.
            if sample.compares and (kind, name) not in UNALIKE and not (kind in CLICKHOUSES and name in FLOATS):
                questions["groups"] = [column, func.count()]
                if sample.orders and name not in (*TEXTS, "key", "key_text"):
                    questions["ends"] = [func.min(column), func.max(column)]
            for title, outputs in questions.items():
                alone = select(*outputs)
                joined = select(*outputs).join(Label, Label.id == model.id)
                if title == "groups":
                    alone, joined = alone.group_by(column), joined.group_by(column)
                for where, statement in ((expected, alone), (found, joined)):
                    where[f"{name} {title}"] = sorted(shown(await session.execute(statement)), key=repr)
    assert differences(found, expected) == {}


@every_kind
@pytest.mark.parametrize("by_duckdb", [False, True], ids=["session", "duckdb"])
async def test_arrow(places: Places, kind: str, by_duckdb: bool, request: pytest.FixtureRequest) -> None:
    """Each column has its Arrow type, of one service or joined, of all rows, of NULL alone and of no rows."""
    if by_duckdb:
        request.getfixturevalue("prefers_scanners")
    model = MODELS[kind]
    found, expected = {}, {}
    async with Federation(places(kind)) as fed, fed.session() as session:
        for name, sample in SAMPLES[kind].items():
            alone = select(getattr(model, name)).order_by(model.id)
            joined = alone.join(Label, Label.id == model.id)
            for title, statement in (("alone", alone), ("joined", joined)):
                for rows, condition in (("all", model.id >= 0), ("NULL", model.id == ROWS - 1), ("none", model.id < 0)):
                    table = await session.arrow(statement.where(condition))
                    if name == "free":  # Its scale is that of the values.
                        assert pa.types.is_decimal128(table.schema.types[0])
                        continue
                    expected[f"{name} {title} {rows}"] = str(sample.arrow)
                    found[f"{name} {title} {rows}"] = str(table.schema.types[0])
    assert differences(found, expected) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_without_async(places: Places, kind: str) -> None:
    """Sessions of threads, with drivers of their own."""
    model = MODELS[kind]
    found, expected = {}, {}
    with Federation(places(kind)) as fed, fed.sync_session() as session:
        for name in SAMPLES[kind]:
            alone = session.execute(select(model.id, getattr(model, name)).order_by(model.id))
            wanted = shown([(*row, f"l{row[0]}") for row in alone])
            for way in (small, by_duckdb, inner_query) if name != "colours" else (small, by_duckdb):
                expected[f"{name} {way.__name__}"] = wanted
                found[f"{name} {way.__name__}"] = shown(session.execute(way(model, name)))
    assert differences(found, expected) == {}


@pytest.mark.xfail(strict=True, reason="psycopg gives arrays of enumerations as text, which a whole query leaves so")
def test_arrays_of_enumerations_in_whole_queries_without_async(places: Places) -> None:
    """They are lists of members, too."""
    model = MODELS["postgresql"]
    with Federation(places("postgresql")) as fed, fed.sync_session() as session:
        alone = session.execute(select(model.id, model.colours).order_by(model.id))
        wanted = shown([(*row, f"l{row[0]}") for row in alone])
        assert shown(session.execute(inner_query(model, "colours"))) == wanted
