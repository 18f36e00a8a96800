"""``fedorm sql``: every format holds every value, and what is no query never runs."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import stat
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from fedorm import Federation
from tests.cli.conftest import SAMPLES, Shell

JOINED = (
    "select p.name, s.total, a.price from people.people p join sales.sales s on s.person_id = p.id "
    "join stock.articles a on a.sku = s.sku order by s.id"
)
ALL = "select * from people.samples order by id"
BOUGHT = [("Ada", "7.50", 2.5), ("Ada", "12.00", 4.0), ("Bob", "1.25", 2.5)]
COLUMNS = list(SAMPLES[0])


def read_back(text: str | None, name: str) -> Any:
    """Return the value that a text of JSON or CSV stands for."""
    if text is None:
        return None
    kinds: dict[str, Any] = {
        "amount": Decimal, "day": date.fromisoformat, "at": datetime.fromisoformat, "local": datetime.fromisoformat,
        "moment": time.fromisoformat, "token": UUID, "raw": base64.b64decode, "span": duration,
        "ratio": lambda value: float(str(value).replace("Infinity", "inf")),
    }  # fmt: skip
    return kinds.get(name, lambda value: value)(text)


def duration(text: str) -> timedelta:
    assert text.endswith("S")
    sign = -1 if text.startswith("-") else 1
    days, _, seconds = text.lstrip("-").removeprefix("P").removesuffix("S").partition("DT")
    return sign * timedelta(days=int(days), seconds=int(seconds.split(".")[0]), microseconds=int(seconds.split(".")[1]))


def expected() -> list[dict[str, Any]]:
    return [{name: one.get(name) for name in COLUMNS} for one in SAMPLES]


def test_json_holds_every_value(shell: Shell) -> None:
    """All types, read back, are what was stored; a join over three services, too."""
    rows = json.loads(shell.rows("sql", "--format", "json", ALL), parse_constant=pytest.fail)
    assert [{name: read_back(value, name) for name, value in row.items()} for row in rows] == expected()
    assert [tuple(row.values()) for row in json.loads(shell.rows("sql", "-F", "json", JOINED))] == BOUGHT
    assert json.loads(shell.rows("sql", "-F", "json", "select * from people.people where id = 0")) == []


def test_json_lines_hold_the_same(shell: Shell) -> None:
    """One object a line, whatever line ends the values have."""
    lines = shell.rows("sql", "--format", "jsonl", ALL).splitlines()
    assert [json.loads(line) for line in lines] == json.loads(shell.rows("sql", "--format", "json", ALL))
    assert shell.rows("sql", "-F", "jsonl", "select * from people.people where id = 0") == ""


def test_csv_holds_every_value(shell: Shell) -> None:
    """NULL and the empty text are two things, and a text is one that equals what stands for NULL."""
    text = shell.rows("sql", "--format", "csv", "--null", "NULL", ALL)
    header, *rows = list(csv.reader(io.StringIO(text, newline="")))
    assert header == COLUMNS
    changed = text.replace('"NULL"', "the text").replace("NULL", "nothing")
    for row, wanted in zip(list(csv.reader(io.StringIO(changed, newline="")))[1:], expected(), strict=True):
        told = {name: None if cell == "nothing" else cell for name, cell in zip(header, row, strict=True)}
        found = {name: read_back(cell, name) for name, cell in told.items()}
        for name, kind in {"id": int, "big": int, "data": json.loads, "flag": json.loads}.items():
            found[name] = None if told[name] is None else kind(str(told[name]))
        found["name"] = "NULL" if found["name"] == "the text" else found["name"]
        assert found == wanted
    assert len(rows) == 4
    assert shell.rows("sql", "-F", "csv", "select name from people.samples where id in (2, 4) order by id") == (
        'name\n""\n\n'
    )
    assert shell.rows("sql", "-F", "csv", JOINED) == "name,total,price\nAda,7.50,2.5\nAda,12.00,4.0\nBob,1.25,2.5\n"


def test_parquet_holds_every_value(shell: Shell, tmp_path: Path) -> None:
    """In a file, and as bytes in a pipe."""
    pq = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "samples.parquet"
    names = [name for name in COLUMNS if name != "span"]
    query = f"select {', '.join(names)} from people.samples order by id"
    assert shell.rows("sql", "--format", "parquet", "--output", str(file), query) == ""
    rows = pq.read_table(file).to_pylist()
    for row in rows:
        row["token"] = UUID(row["token"]) if row["token"] else None
        row["data"] = None if row["data"] is None else json.loads(row["data"])
    assert rows == [{name: row[name] for name in names} for row in expected()]
    done = shell.process("--models", "shop", "sql", "--format", "parquet", JOINED)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(io.BytesIO(done.stdout)).to_pylist() == [
        {"name": name, "total": Decimal(total), "price": price} for name, total, price in BOUGHT
    ]


def test_a_table_is_plain_in_a_pipe(shell: Shell) -> None:
    """Numbers stand to the right; NULL, the text NULL and the empty text are three things; nothing is obeyed."""
    result = shell("sql", JOINED)
    assert result.stdout.splitlines() == [
        "name | total | price",
        "-----+-------+------",
        "Ada  |  7.50 |   2.5",
        "Ada  | 12.00 |   4.0",
        "Bob  |  1.25 |   2.5",
    ]
    assert result.stderr == "(3 rows)\n"
    assert shell.rows("sql", "select id, name from people.samples order by id").splitlines()[2:] == [
        ' 1 | a "quoted", ä 日本\\nline; \\x1b[31mred',
        " 2 |",
        " 3 | 'NULL'",
        " 4 | NULL",
    ]


def test_a_table_has_colours_on_a_terminal(shell: Shell) -> None:
    """Only there; the values' own control characters are still not obeyed."""
    shown = shell("sql", "select id, name from people.samples order by id", FORCE_COLOR="1", COLUMNS="80").stdout
    assert "\x1b[" in shown
    assert "╭" in shown
    assert "\x1b[31m" not in shown
    assert "\\x1b[31mred" in shown
    assert "\x1b[2;3mNULL " in shown


def test_a_table_may_be_cut(shell: Shell, tmp_path: Path) -> None:
    """The rows that are not shown are counted."""
    result = shell("sql", "--limit-display", "2", JOINED)
    assert len(result.stdout.splitlines()) == 4
    assert result.stderr == "(3 rows, of which 2 are shown: see --limit-display)\n"
    file = tmp_path / "table.txt"
    assert shell.rows("sql", "-o", str(file), JOINED) == ""
    assert file.read_text() == shell.rows("sql", JOINED)
    assert shell("sql", "select id from people.people where id = 1").stderr == "(1 row)\n"


def test_many_rows_come_in_batches(shell: Shell) -> None:
    """None is lost or doubled where one batch ends and the next begins."""
    tens = ", ".join(f"({number})" for number in range(10))
    many = (
        f"select a.n + 10 * b.n + 100 * c.n + 1000 * d.n as n from people.people p, (values {tens}) a(n), "
        f"(values {tens}) b(n), (values {tens}) c(n), (values {tens}) d(n) where p.id = 1 order by 1"
    )
    for form in ("csv", "json", "jsonl"):
        text = shell.rows("sql", "--format", form, many)
        match form:
            case "csv":
                found = [int(line) for line in text.splitlines()[1:]]
            case "json":
                found = [row["n"] for row in json.loads(text)]
            case _:
                found = [json.loads(line)["n"] for line in text.splitlines()]
        assert found == list(range(10_000))


def test_where_a_statement_comes_from(shell: Shell, tmp_path: Path) -> None:
    """The argument, a file, or stdin."""
    file = tmp_path / "query.sql"
    file.write_text(f"-- who: has bought :what\n{JOINED};\n", encoding="utf-8-sig")
    wanted = shell.rows("sql", "-F", "csv", JOINED)
    assert shell.rows("sql", "-F", "csv", "-f", str(file)) == wanted
    assert shell("sql", "-F", "csv", "-", input=JOINED).stdout == wanted
    assert shell("sql", "-F", "csv", "-f", "-", input=JOINED).stdout == wanted
    assert "one statement" in shell.refusal("sql", code=2)
    assert "one statement" in shell.refusal("sql", JOINED, "-f", str(file), code=2)
    assert "cannot be read" in shell.refusal("sql", "-f", str(tmp_path / "none.sql"), code=2)


def test_parameters(shell: Shell) -> None:
    """Each has the type that it looks like or that is named; several of one name are a list."""
    found = "select id from people.samples where {} order by id"
    for condition, given, wanted in (
        ("big = :x", ["x=9223372036854775807"], [1]),
        ("amount = :x", ["x=12345678901234567890.0123456789"], [1]),
        ("flag = :x", ["x=false"], [2]),
        ("day = :x", ["x=2026-02-28"], [1]),
        ("at = :x", ["x=2026-03-01T00:59:59.123456+01:00"], [1]),
        ("name = :x", ["x="], [2]),
        ("name = :x", ["x:str=NULL"], [3]),
        ("token = :x", ["x:uuid=12345678-1234-5678-1234-567812345678"], [1]),
        ("raw = :x", ["x:bytes=" + base64.b64encode(bytes(range(256))).decode()], [1]),
        ("ratio = :x", ["x:float=0.1"], [1]),
        ("id in :x", ["x=2", "x=3"], [2, 3]),
        ("id between :x and :y", ["x=2", "y=3"], [2, 3]),
    ):
        options = [part for one in given for part in ("--param", one)]
        text = shell.rows("sql", "-F", "jsonl", *options, found.format(condition))
        assert [json.loads(line)["id"] for line in text.splitlines()] == wanted, condition


def test_colons_that_are_no_parameters(shell: Shell) -> None:
    """In text, in names, in comments and in casts; of one service and of several."""
    query = "select ' :a \\:b'::text as \"c :d\", :h as h from people.people p {} where p.id = 2 -- :i"
    for joined in ("", 'join sales.sales "s :t" on "s :t".person_id = p.id'):
        (row,) = json.loads(shell.rows("sql", "-F", "json", "-p", "h=x :y", query.format(joined)))
        assert row == {"c :d": " :a \\:b", "h": "x :y"}


def test_wrong_parameters(shell: Shell) -> None:
    """Each is refused by its name, and its value is not repeated."""
    query = "select name from people.people where id = :id"
    assert shell.refusal("sql", query, code=2) == "the statement has the parameter :id: add  --param id=..."
    refused = shell.refusal("sql", query, "-p", "id=1", "-p", "it=2", code=2)
    assert refused == "the statement has no parameter :it; it has :id"
    assert shell.refusal("sql", query, "-p", "id", code=2).startswith("--param id: write  --param name=value")
    assert "no int" in shell.refusal("sql", query, "-p", "id:int=one", code=2)
    assert "no type 'number'" in shell.refusal("sql", query, "-p", "id:number=1", code=2)


@pytest.mark.parametrize(
    ("statement", "verb"),
    [
        ("delete from people.people", "DELETE"),
        ("update people.people set name = 'x'", "UPDATE"),
        ("insert into people.people (id) values (9)", "INSERT"),
        ("with gone as (delete from people.people returning id) select * from gone", "DELETE"),
        ("select * into people.copy from people.people", "SELECT INTO"),
        ("create table people.copy as select * from people.people", "CREATE"),
        ("drop table people.people", "DROP"),
        ("truncate people.people", "TRUNCATE"),
        ("select * from people.people for update", "SELECT FOR UPDATE"),
        ("explain analyze delete from people.people", "EXPLAIN"),
        ("call people.procedure()", "CALL"),
        ("copy people.people to '/tmp/x'", "COPY"),
    ],
)
def test_only_queries_run(shell: Shell, statement: str, verb: str) -> None:
    """What writes is refused by its name; nothing has changed."""
    refused = shell.refusal("sql", statement)
    assert verb in refused
    assert "nothing was run" in refused
    assert shell.rows("sql", "-F", "csv", "select count(*) as n from people.people") == "n\n3\n"


def test_a_function_that_writes_is_refused_by_the_server(shell: Shell) -> None:
    """No look at the statement tells; the transaction is one for reading alone."""
    refused = shell.refusal("sql", "select setval('people_id_seq', 100) from people.people")
    assert refused.startswith("service 'people': ")
    assert "read-only transaction" in refused


def test_wrong_statements(shell: Shell, tmp_path: Path) -> None:
    """One line each, and a file that was to be written is not there."""
    file = tmp_path / "rows.csv"
    for statement, message in (
        ("select 1; select 2", "one statement is expected, and these are 2"),
        ("", "one statement is expected, and these are 0"),
        ("select from where", "cannot be read as SQL"),
        ("select nothing from people.people", "nothing"),
        ("select * from people.peeple", "did you mean people.people"),
        ("select 1", "names no table"),
        ("select 1 / (id - 1) from people.people", "division by zero"),
    ):
        refused = shell.refusal("sql", "-F", "csv", "-o", str(file), statement)
        assert message in refused, statement
        assert not file.exists()
    twice = "select p.id, s.id from people.people p join sales.sales s on s.person_id = p.id"
    assert "'id'" in shell.refusal("sql", "-F", "json", twice)
    assert shell.rows("sql", "-F", "csv", twice).splitlines()[0] == "id,id"


def test_a_file_appears_when_it_is_whole(shell: Shell, tmp_path: Path) -> None:
    """It keeps its rights and its place behind a link; what is no file is written to as it is."""
    file, link = tmp_path / "rows.csv", tmp_path / "link.csv"
    shell.rows("sql", "-F", "csv", "-o", str(file), JOINED)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file)
    shell.rows("sql", "-F", "csv", "-o", str(link), JOINED)
    assert (link.is_symlink(), stat.S_IMODE(file.stat().st_mode)) == (True, 0o600)
    assert file.read_text() == shell.rows("sql", "-F", "csv", JOINED)
    file.write_text("old")
    shell.refusal("sql", "-F", "csv", "-o", str(file), "select 1 / (id - 1) from people.people")
    assert file.read_text() == "old"
    shell.rows("sql", "-F", "csv", "-o", "/dev/null", JOINED)
    assert shell.refusal("sql", "-o", str(tmp_path / "no" / "file"), JOINED, code=2).startswith("--output ")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fedorm.toml", "link.csv", "rows.csv", "shop.py"]


def test_nothing_is_written(shell: Shell) -> None:
    """A federation that reads answers as any other, and is closed."""
    federation = Federation(shell.urls)
    assert "postgresql_readonly" not in federation.stores["people"].engine.get_execution_options()  # type: ignore[attr-defined]
    assert shell.rows("sql", "-F", "csv", "select count(*) as n from stock.articles") == "n\n2\n"
