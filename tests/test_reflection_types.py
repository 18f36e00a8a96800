"""Every kind of server's own types, as reflected tables have them, and the values they hold."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from sqlalchemy import ARRAY, JSON, select, text, types

from fedorm import Federation
from fedorm.stores.clickhouse_reflection import column_type
from tests.conftest import HAS_CLICKHOUSE
from tests.reflecting import KEY, NOON, Fresh, Part, kinds_of, ledger, prepared, rows

__all__ = ["ledger"]


async def test_types_of_postgresql(ledger: Federation) -> None:
    """Every type is the server's own, and every value comes as SQLAlchemy gives it, across services, too."""
    kinds = (await ledger.reflect("ledger", only=["kinds"]))["kinds"]
    assert kinds_of(kinds) == {
        "id": "BIGINT()",
        "price": "NUMERIC(precision=12, scale=2)",
        "at": "TIMESTAMP(timezone=True)",
        "day": "DATE()",
        "key": "UUID()",
        "about": "JSONB(astext_type=Text())",
        "feeling": "ENUM('glad', 'sad', name='mood')",
        "tags": "ARRAY(TEXT())",
        "sizes": "ARRAY(INTEGER())",
        "amount": "NUMERIC()",
        "data": "BYTEA()",
        "ok": "BOOLEAN()",
        "ratio": "DOUBLE_PRECISION(precision=53)",
        "address": "INET()",
    }
    assert kinds.c.price.nullable is False
    parts = (await ledger.reflect("parts", only=["parts"]))["parts"]
    plain = [column for column in kinds.columns if column.name != "address"]
    first = (
        1, Decimal("12.50"), NOON, NOON.date(), KEY, {"a": [1, None]}, "glad", ["x", "y, z"], [1, 2], Decimal("1.250"),
        b"\x00\xff", True, 0.5,
    )  # fmt: skip
    second = (2, Decimal("-0.01"), None, None, None, None, None, None, [], None, None, None, None)
    alone = select(*plain).order_by(kinds.c.id)
    assert await rows(ledger, alone) == [first, second]
    across = select(*plain, parts.c.price).join_from(kinds, parts, parts.c.code == "a").order_by(kinds.c.id)
    assert await rows(ledger, across) == [(*first, Decimal("1.50")), (*second, Decimal("1.50"))]
    wanted = across.where(kinds.c.key == KEY, kinds.c.feeling == "glad", kinds.c.at == NOON, kinds.c.price > 12)
    assert await rows(ledger, wanted) == [(*first, Decimal("1.50"))]
    assert await rows(ledger, wanted.where(kinds.c.feeling == "sad")) == []


async def test_types_of_mariadb(ledger: Federation) -> None:
    """Its own types become SQLAlchemy's, which the other databases understand; JSON is found by its check."""
    kinds = (await ledger.reflect("parts", only=["kinds"]))["kinds"]
    assert kinds_of(kinds) == {
        "id": "BigInteger()",
        "price": "Numeric(precision=12, scale=2)",
        "at": "DateTime()",
        "day": "Date()",
        "about": "JSON()",
        "feeling": "Enum('glad', 'sad', native_enum=False)",
        "small": "Integer()",
        "ratio": "Double()",
        "data": "LargeBinary(length=5)",
        "code": "String(length=9)",
        "year": "Integer()",
        "notes": "String()",
    }
    expected = (
        1, Decimal("12.50"), datetime.datetime(2026, 1, 2, 12, 0, 0, 1), NOON.date(), {"a": [1, None]}, "glad", -3, 0.5,
        b"\x00\xff", "a", 2026, "long",
    )  # fmt: skip
    assert await rows(ledger, select(kinds)) == [expected]
    invoices = (await ledger.reflect("ledger", only=["invoices"]))["invoices"]
    across = select(kinds, invoices.c.total).join_from(kinds, invoices, invoices.c.id == kinds.c.id + 9)
    assert await rows(ledger, across) == [(*expected, Decimal("5.00"))]


async def test_sqlite(tmp_path: Path, fresh_database: Fresh) -> None:
    """The types that its tables declare, and a join with another service."""
    services = {"jottings": f"sqlite+aiosqlite:///{tmp_path}/notes.db", "ledger": fresh_database("postgresql")}
    async with Federation(services) as fed:
        await prepared(
            fed,
            "jottings",
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, price NUMERIC(10, 2), at DATETIME, day DATE, ok BOOLEAN,"
            " about JSON, body VARCHAR(20), raw BLOB);"
            "INSERT INTO notes VALUES (1, 1.5, '2026-01-02 12:00:00.000000', '2026-01-02', 1, '[1]', 'x', x'00');"
            "CREATE VIEW bodies AS SELECT id, body FROM notes",
        )
        await prepared(fed, "ledger", "CREATE TABLE lines (note integer); INSERT INTO lines VALUES (1)")
        found = await fed.reflect("jottings")
        await fed.reflect("ledger")
        assert set(found) == {"notes", "bodies"}
        assert kinds_of(found["notes"]) == {
            "id": "Integer()",
            "price": "Numeric(precision=10, scale=2)",
            "at": "DateTime()",
            "day": "Date()",
            "ok": "Boolean()",
            "about": "JSON()",
            "body": "String(length=20)",
            "raw": "LargeBinary()",
        }
        lines = fed.tables["ledger.lines"]
        expected = (1, Decimal("1.50"), NOON.replace(tzinfo=None), NOON.date(), True, [1], "x", b"\x00")
        statement = select(found["notes"]).join(lines, lines.c.note == found["notes"].c.id)
        assert await rows(fed, statement) == [expected]
        assert await rows(fed, text("select body from jottings.bodies b join lines l on l.note = b.id")) == [("x",)]


CLICKHOUSE = """
    CREATE TABLE kinds (
        id UInt32, price Decimal(12, 2), at DateTime('UTC'), day Date, key UUID,
        feeling Enum8('glad' = 1, 'it\\'s' = 2), tags Array(String), name Nullable(String), big UInt64, ratio Float64,
        short FixedString(3), low LowCardinality(String)
    ) ENGINE = MergeTree() ORDER BY id;
    INSERT INTO kinds SELECT 1, toDecimal64('12.50', 2), toDateTime('2026-01-02 12:00:00', 'UTC'), toDate('2026-01-02'),
        toUUID('0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b'), 'glad', ['x', 'y'], NULL, 7, 0.5, 'abc', 'l'
"""


@pytest.mark.parametrize(
    "kind", ["chdb", pytest.param("clickhouse", marks=pytest.mark.skipif(not HAS_CLICKHOUSE, reason="its driver"))]
)
async def test_clickhouse(kind: str, fresh_database: Fresh, tmp_path: Path) -> None:
    """From the engine's own catalog, in process and from a server."""
    pytest.importorskip(kind if kind == "chdb" else "clickhouse_sqlalchemy")
    url = f"chdb:///{tmp_path}/facts" if kind == "chdb" else fresh_database("clickhouse")
    script = CLICKHOUSE if kind == "chdb" else CLICKHOUSE.replace("LowCardinality(String)", "String")
    async with Federation({"facts": url, "ledger": fresh_database("postgresql")}) as fed:
        await prepared(fed, "facts", script)
        await prepared(fed, "ledger", "CREATE TABLE lines (fact integer); INSERT INTO lines VALUES (1)")
        kinds = (await fed.reflect("facts"))["kinds"]
        await fed.reflect("ledger")
        assert kinds_of(kinds) == {
            "id": "BigInteger()",
            "price": "Numeric(precision=12, scale=2)",
            "at": "DateTime(timezone=True)",
            "day": "Date()",
            "key": "Uuid()",
            "feeling": "Enum('glad', \"it's\", native_enum=False)",
            "tags": "ARRAY(Text())",
            "name": "Text()",
            "big": "BigInteger()",
            "ratio": "Float()",
            "short": "String(length=3)",
            "low": "Text()",
        }
        assert [column.name for column in kinds.primary_key] == ["id"]
        assert (kinds.c.name.nullable, kinds.c.price.nullable) == (True, False)
        expected = (1, Decimal("12.50"), NOON, NOON.date(), KEY, "glad", ["x", "y"], None, 7, 0.5, "abc", "l")
        assert await rows(fed, select(kinds)) == [expected]
        lines = fed.tables["ledger.lines"]
        assert await rows(fed, select(kinds).join(lines, lines.c.fact == kinds.c.id)) == [expected]
        spelled = text("select k.price from facts.kinds k join ledger.lines l on l.fact = k.id where k.at = :at")
        assert await rows(fed, spelled, at=NOON) == [(Decimal("12.50"),)]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("Nullable(Decimal(9, 2))", ("Numeric(precision=9, scale=2)", True)),
        ("LowCardinality(Nullable(String))", ("Text()", True)),
        ("DateTime64(6, 'Europe/Berlin')", ("DateTime(timezone=True)", False)),
        ("DateTime64(3)", ("DateTime()", False)),
        ("Decimal64(4)", ("Numeric(precision=18, scale=4)", False)),
        ("Array(Nullable(Int64))", ("ARRAY(BigInteger())", False)),
        ("Array(Tuple(a String, b Int8))", ("NullType()", False)),
        ("Enum16('a,b' = -1, 'c)' = 2)", ("Enum('a,b', 'c)', native_enum=False)", False)),
        ("Map(String, Array(UInt8))", ("NullType()", False)),
        ("SimpleAggregateFunction(sum, UInt64)", ("BigInteger()", False)),
    ],
)
def test_types_of_clickhouse(declared: str, expected: tuple[str, bool]) -> None:
    """The server's words for a type, nested and quoted."""
    made, nullable = column_type(declared)
    assert (repr(made), nullable) == expected


async def test_a_collection_by_a_sample(fresh_database: Fresh) -> None:
    """Fields and their types by the documents that are there, those inside of documents included."""
    async with Federation({"warehouse": fresh_database("mongodb"), "ledger": fresh_database("postgresql")}) as fed:
        store: Any = fed.stores["warehouse"]
        database = store.side(sync=False).database
        ids = [ObjectId(), ObjectId()]
        await database["bins"].insert_many(
            [
                {
                    "_id": ids[0], "code": "a", "count": 3, "price": Decimal128("1.50"), "ratio": 1, "at": NOON,
                    "key": KEY, "tags": ["x", "y"], "place": {"city": "Ulm", "floor": 2}, "odd": 1, "ok": True,
                },
                {"_id": ids[1], "code": "b", "ratio": 0.5, "tags": [], "odd": "two", "place": {"city": "Bonn"}},
            ]
        )  # fmt: skip
        await prepared(fed, "ledger", "CREATE TABLE lines (code text); INSERT INTO lines VALUES ('a'), ('b')")
        bins = (await fed.reflect("warehouse"))["bins"]
        await fed.reflect("ledger")
        assert set(fed.tables) == {"ledger.customers", "ledger.lines", "warehouse.parts", "warehouse.bins"}
        assert {column.name: type(column.type) for column in bins.columns} == {
            "_id": type(Part.c.id.type),
            "code": types.Text,
            "count": types.BigInteger,
            "price": types.Numeric,
            "ratio": types.Float,
            "at": types.DateTime,
            "key": types.Uuid,
            "tags": ARRAY,
            "place": type(bins.c.place.type),
            "place.city": types.Text,
            "place.floor": types.BigInteger,
            "odd": type(bins.c.odd.type),
            "ok": types.Boolean,
        }
        assert isinstance(bins.c.place.type, JSON)
        assert isinstance(bins.c.odd.type, JSON)
        assert [column.name for column in bins.primary_key] == ["_id"]
        lines = fed.tables["ledger.lines"]
        expected = [
            (ids[0], "a", 3, Decimal("1.50"), 1.0, NOON, KEY, ["x", "y"], {"city": "Ulm", "floor": 2}, 1, True),
            (ids[1], "b", None, None, 0.5, None, None, [], {"city": "Bonn"}, "two", None),
        ]
        assert await rows(fed, select(bins).order_by(bins.c.code)) == expected
        joined = select(bins).join(lines, lines.c.code == bins.c.code).order_by(bins.c.code)
        assert await rows(fed, joined) == expected
        assert await rows(fed, select(bins.c["place.city"]).where(bins.c.count == 3)) == [("Ulm",)]
        spelled = text(
            'select b.code, b."place.city" from warehouse.bins b join ledger.lines l on l.code = b.code order by 1'
        )
        assert await rows(fed, spelled) == [("a", "Ulm"), ("b", "Bonn")]
        assert await rows(fed, select(bins.c.code).where(bins.c._id == ids[1])) == [("b",)]


async def test_a_collection_by_its_validator(fresh_database: Fresh) -> None:
    """What the validator says goes before what documents show, and for fields that no document has."""
    async with Federation({"warehouse": fresh_database("mongodb")}) as fed:
        store: Any = fed.stores["warehouse"]
        database = store.side(sync=False).database
        schema = {
            "bsonType": "object",
            "required": ["code"],
            "properties": {
                "_id": {"bsonType": "string"},
                "code": {"bsonType": "string"},
                "price": {"bsonType": ["decimal", "null"]},
                "weight": {"bsonType": ["int", "double"]},
                "state": {"enum": ["new", "old", None]},
                "tags": {"bsonType": "array", "items": {"bsonType": "string"}},
                "place": {"bsonType": "object", "properties": {"floor": {"bsonType": "int"}}},
                "anything": {},
            },
        }
        await database.create_collection("bins", validator={"$jsonSchema": schema})
        await database["bins"].insert_one({"_id": "b1", "code": "a", "weight": 3, "extra": 1})
        bins = (await fed.reflect("warehouse", only=["bins"]))["bins"]
        assert {column.name: type(column.type).__name__ for column in bins.columns} == {
            "_id": "Text",
            "code": "Text",
            "price": "Numeric",
            "weight": "Float",
            "state": "Text",
            "tags": "ARRAY",
            "place": "DocumentJSON",
            "place.floor": "BigInteger",
            "anything": "DocumentJSON",
            "extra": "BigInteger",
        }
        expected = [("b1", "a", None, 3.0, None, None, None, None, 1)]
        assert await rows(fed, select(bins)) == expected
