"""Tables that no model declares: read from every kind of server, named in text and taken in selects."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from bson import Decimal128, ObjectId
from sqlalchemy import ARRAY, JSON, MetaData, Table, case, func, select, text, types
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument, Federation, UnknownServiceError, UnknownTableError
from fedorm.catalog import owner_of
from fedorm.stores.clickhouse_reflection import column_type
from tests.conftest import HAS_CLICKHOUSE

Fresh = Callable[[str], str]
NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
KEY = UUID("0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b")


class Customer(FederatedBase):
    __service__ = "ledger"
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Part(FederatedDocument):
    __service__ = "warehouse"
    code: str

    class Settings:
        name = "parts"


POSTGRESQL = """
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE DOMAIN money_amount AS numeric(10, 3);
    CREATE TABLE kinds (
        id bigint PRIMARY KEY, price numeric(12, 2) NOT NULL, at timestamptz, day date, key uuid, about jsonb,
        feeling mood, tags text[], sizes integer[], amount money_amount, data bytea, ok boolean, ratio double precision,
        address inet
    );
    INSERT INTO kinds VALUES (1, 12.50, '2026-01-02 13:00+01', '2026-01-02', '0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b',
        '{"a": [1, null]}', 'glad', '{x,"y, z"}', '{1,2}', 1.250, '\\x00ff', true, 0.5, '10.0.0.1'),
        (2, -0.01, NULL, NULL, NULL, NULL, NULL, NULL, '{}', NULL, NULL, NULL, NULL, NULL);
    CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL, secret text);
    INSERT INTO customers VALUES (1, 'ada', 'x'), (2, 'bob', 'y');
    CREATE TABLE invoices (id integer PRIMARY KEY, customer_id integer REFERENCES customers, total numeric(10, 2));
    INSERT INTO invoices VALUES (10, 1, 5.00), (11, 1, 7.25), (12, 2, 1.00);
    CREATE TABLE lines (
        invoice_id integer REFERENCES invoices, number integer, code text, PRIMARY KEY (invoice_id, number)
    );
    INSERT INTO lines VALUES (10, 1, 'a'), (10, 2, 'b'), (11, 1, 'a'), (12, 1, 'gone');
    CREATE VIEW large AS SELECT id, total FROM invoices WHERE total > 4;
    CREATE MATERIALIZED VIEW sums AS SELECT customer_id, sum(total) AS total FROM invoices GROUP BY customer_id
"""

MARIADB = """
    CREATE TABLE kinds (
        id BIGINT PRIMARY KEY, price DECIMAL(12, 2), at DATETIME(6), day DATE, about JSON, feeling ENUM('glad', 'sad'),
        small TINYINT, ratio DOUBLE, data VARBINARY(5), code VARCHAR(9) COLLATE utf8mb4_bin, year YEAR, notes LONGTEXT
    );
    INSERT INTO kinds VALUES (1, 12.50, '2026-01-02 12:00:00.000001', '2026-01-02', '{"a": [1, null]}', 'glad', -3, 0.5,
        x'00ff', 'a', 2026, 'long');
    CREATE TABLE parts (code VARCHAR(9) PRIMARY KEY, price DECIMAL(8, 2));
    INSERT INTO parts VALUES ('a', 1.50), ('b', 2.25);
    CREATE TABLE bins (id INT PRIMARY KEY, code VARCHAR(9), FOREIGN KEY (code) REFERENCES parts (code));
    INSERT INTO bins VALUES (1, 'a')
"""


async def prepared(fed: Federation, service: str, script: str) -> None:
    async with fed.session() as session:
        connection = await session.connection(bind_arguments={"service": service})
        for statement in script.split(";"):
            await connection.exec_driver_sql(statement)
        await session.commit()


@pytest.fixture
async def ledger(fresh_database: Fresh) -> Any:
    async with Federation({"ledger": fresh_database("postgresql"), "parts": fresh_database("mysql")}) as fed:
        await prepared(fed, "ledger", POSTGRESQL)
        await prepared(fed, "parts", MARIADB)
        yield fed


def kinds_of(table: Table) -> dict[str, str]:
    return {column.name: repr(column.type) for column in table.columns}


async def rows(fed: Federation, statement: Any, **parameters: Any) -> list[tuple[Any, ...]]:
    async with fed.session() as session:
        return [tuple(row) for row in await session.execute(statement, parameters)]


async def test_what_is_known_afterwards(ledger: Federation) -> None:
    """Tables, views and materialized views; what a model declares stays the model's."""
    assert set(ledger.tables) == {"ledger.customers"}
    found = await ledger.reflect("ledger")
    assert set(found) == {"kinds", "invoices", "lines", "large", "sums"}
    assert set(ledger.tables) == {"ledger.customers", *(f"ledger.{name}" for name in found)}
    assert len(ledger.tables) == 6
    assert ledger.tables["ledger.customers"] is Customer.__table__
    assert ledger.tables["ledger.lines"] is found["lines"]
    assert owner_of(found["lines"]) == "ledger"
    assert "ledger.nothing" not in ledger.tables
    assert ledger.tables.get("ledger.nothing") is None
    with pytest.raises(TypeError):
        ledger.tables["ledger.new"] = found["lines"]  # type: ignore[index]


async def test_keys(ledger: Federation) -> None:
    """Primary keys of several columns; foreign keys lead to reflected tables, and to a model's own table."""
    found = await ledger.reflect("ledger")
    lines, invoices = found["lines"], found["invoices"]
    assert [column.name for column in lines.primary_key] == ["invoice_id", "number"]
    assert [key.column for key in lines.foreign_keys] == [invoices.c.id]
    assert [key.column for key in invoices.foreign_keys] == [Customer.__table__.c.id]
    joined = select(Customer.name, lines.c.code).join(invoices).join(lines).order_by(lines.c.code)
    joined = select(Customer.name, lines.c.code).select_from(invoices).join(Customer).join(lines)
    assert sorted(await rows(ledger, joined)) == [("ada", "a"), ("ada", "a"), ("ada", "b"), ("bob", "gone")]


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


async def test_two_reflected_tables_of_two_services(ledger: Federation) -> None:
    """In text, in select(), grouped, and together with a model."""
    await ledger.reflect("ledger")
    await ledger.reflect("parts", only=["parts", "bins"])
    expected = [("ada", Decimal("5.25")), ("bob", None)]
    statement = text(
        "select c.name, sum(p.price) from ledger.customers c join ledger.invoices i on i.customer_id = c.id "
        "join ledger.lines l on l.invoice_id = i.id left join parts.parts p on p.code = l.code "
        "where l.number < :below group by 1 order by 1"
    )
    assert await rows(ledger, statement, below=9) == expected
    lines, parts = ledger.tables["ledger.lines"], ledger.tables["parts.parts"]
    invoices = ledger.tables["ledger.invoices"]
    grouped = (
        select(Customer.name, func.sum(parts.c.price))
        .join(invoices, invoices.c.customer_id == Customer.id)
        .join(lines, lines.c.invoice_id == invoices.c.id)
        .outerjoin(parts, parts.c.code == lines.c.code)
        .group_by(Customer.name)
        .order_by(Customer.name)
    )
    assert await rows(ledger, grouped) == expected
    priced = select(lines.c.code, case((parts.c.price > 2, "dear"), else_="cheap")).join(
        parts, parts.c.code == lines.c.code
    )
    assert sorted(await rows(ledger, priced)) == [("a", "cheap"), ("a", "cheap"), ("b", "dear")]
    bare = text("select count(*) from large, bins")
    assert await rows(ledger, bare) == [(2,)]
    sums = select(ledger.tables["ledger.sums"]).order_by("customer_id")
    assert await rows(ledger, sums) == [
        (1, Decimal("12.25")),
        (2, Decimal("1.00")),
    ]


async def test_writing(ledger: Federation) -> None:
    """A reflected table is a table: it can be written to, in the session's transaction."""
    await ledger.reflect("parts", only=["parts"])
    parts = ledger.tables["parts.parts"]
    async with ledger.session() as session:
        await session.execute(parts.insert(), [{"code": "c", "price": Decimal(9)}])
        assert (await session.execute(select(parts.c.price).where(parts.c.code == "c"))).all() == [(Decimal("9.00"),)]
        await session.rollback()
        assert (await session.execute(select(parts).where(parts.c.code == "c"))).all() == []


async def test_two_federations_do_not_meet(ledger: Federation, fresh_database: Fresh) -> None:
    """What one has reflected another does not know, though the services have one name."""
    await ledger.reflect("ledger")
    async with Federation({"ledger": fresh_database("postgresql"), "parts": fresh_database("mysql")}) as other:
        assert set(other.tables) == {"ledger.customers"}
        with pytest.raises(UnknownTableError, match=r"no service of this federation has a table 'ledger\.lines'"):
            await rows(other, text("select * from ledger.lines, parts.parts"))
        await prepared(other, "ledger", "CREATE TABLE lines (other integer)")
        await other.reflect("ledger")
        assert [column.name for column in other.tables["ledger.lines"].columns] == ["other"]
    assert len(ledger.tables["ledger.lines"].columns) == 3
    assert "lines" not in FederatedBase.metadata_of("ledger").tables


async def test_what_is_not_there(ledger: Federation) -> None:
    """Names that are wrong are answered with the nearest ones, and nothing is kept."""
    with pytest.raises(UnknownServiceError, match="ledgr"):
        await ledger.reflect("ledgr")
    with pytest.raises(UnknownTableError, match=r"'ledger\.invoice': did you mean ledger\.invoices"):
        await ledger.reflect("ledger", only=["kinds", "invoice"])
    assert set(ledger.tables) == {"ledger.customers"}
    assert await ledger.reflect("ledger", only=["customers"]) == {}
    with pytest.raises(KeyError, match=r"did you mean ledger\.customers"):
        ledger.tables["ledger.customer"]
    with pytest.raises(UnknownTableError, match=r"did you mean ledger\.customers"):
        ledger.tables["customers"]


async def test_reflecting_again(ledger: Federation) -> None:
    """A second reading finds what has changed since."""
    await ledger.reflect("ledger", only=["lines"])
    await ledger.reflect("parts", only=["parts"])
    await prepared(ledger, "ledger", "ALTER TABLE lines ADD COLUMN added integer DEFAULT 4")
    again = await ledger.reflect("ledger", only=["lines"])
    assert "added" in again["lines"].c
    assert ledger.tables["ledger.lines"] is again["lines"]
    assert await rows(ledger, text("select distinct added from ledger.lines, parts.parts where false")) == []
    await ledger.reflect("ledger", only=["invoices"])
    assert {"ledger.lines", "ledger.invoices", "parts.parts"} <= set(ledger.tables)
    await prepared(ledger, "ledger", "DROP TABLE lines")
    await ledger.reflect("ledger")
    assert "ledger.lines" not in ledger.tables
    assert {"ledger.invoices", "parts.parts"} <= set(ledger.tables)


async def test_no_plan_is_older_than_a_reflection(ledger: Federation) -> None:
    """A statement that was planned before is planned anew when its tables have been read again."""
    await ledger.reflect("ledger", only=["lines"])
    await ledger.reflect("parts", only=["parts"])
    statement = text("select l.* from ledger.lines l join parts.parts p on p.code = l.code where l.code = 'b'")
    assert await rows(ledger, statement) == [(10, 2, "b")]
    await prepared(ledger, "ledger", "ALTER TABLE lines ADD COLUMN added integer DEFAULT 4")
    await ledger.reflect("ledger", only=["lines"])
    assert await rows(ledger, statement) == [(10, 2, "b", 4)]


def test_without_async(fresh_database: Fresh) -> None:
    """The same in code that is not async, documents included."""
    with Federation({"ledger": fresh_database("postgresql"), "warehouse": fresh_database("mongodb")}) as fed:
        with fed.sync_session() as session:
            session.execute(text("CREATE TABLE lines (n integer, code text)"), bind_arguments={"service": "ledger"})
            session.execute(text("INSERT INTO lines VALUES (1, 'a')"), bind_arguments={"service": "ledger"})
            session.commit()
        assert set(fed.sync_reflect("ledger")) == {"lines"}
        assert fed.sync_reflect("warehouse") == {}
        lines = fed.tables["ledger.lines"]
        with fed.sync_session() as session:
            assert [tuple(row) for row in session.execute(select(lines))] == [(1, "a")]


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


def test_a_table_of_nobody() -> None:
    """Reading leaves the models' MetaData as it was."""
    assert "kinds" not in FederatedBase.metadata_of("ledger").tables
    assert isinstance(FederatedBase.metadata_of("ledger"), MetaData)
