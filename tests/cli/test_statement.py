"""What is read from the command line without asking any service."""

from __future__ import annotations

import datetime
import math
from collections import OrderedDict
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.dialects import postgresql

from fedorm import UnsupportedQueryError
from fedorm.cli.parameters import parse_parameters
from fedorm.cli.setup import Setup, UsageError
from fedorm.cli.statement import check_query, prepare
from fedorm.cli.tables import shown
from fedorm.cli.values import as_json, as_text


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("1", 1), ("-0", 0), ("007", "007"), ("1e5", "1e5"), ("1.50", Decimal("1.50")), ("1.", "1."), ("", ""),
        ("TRUE", True), ("null", None), ("2026-02-28", datetime.date(2026, 2, 28)), ("2026-02-30", "2026-02-30"),
        ("2026-02-28 10:00", datetime.datetime(2026, 2, 28, 10)), ("2026-02-28 at 10:00", "2026-02-28 at 10:00"),
        ("2026-02-28T10:00:00Z", datetime.datetime(2026, 2, 28, 10, tzinfo=datetime.UTC)), ("a=b:c", "a=b:c"),
        ("12345678-1234-5678-1234-567812345678", "12345678-1234-5678-1234-567812345678"), ("a\nb", "a\nb"),
    ],
)  # fmt: skip
def test_a_value_has_the_type_that_it_looks_like(given: str, value: Any) -> None:
    """And stays text where it looks like nothing else."""
    found = parse_parameters([f"x={given}"])
    assert found == {"x": value}
    assert type(found["x"]) is type(value)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("str=1", "1"), ("int=12", 12), ("float=1e5", 1e5), ("decimal=1e5", Decimal("1e5")), ("bool=False", False),
        ("date=2026-02-28", datetime.date(2026, 2, 28)), ("time=10:00", datetime.time(10)), ("null=", None),
        ("datetime=2026-02-28", datetime.datetime(2026, 2, 28)), ("bytes=AAE=", b"\0\1"), ('json={"a": 1}', {"a": 1}),
        ("uuid=12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
    ],
)  # fmt: skip
def test_a_type_may_be_named(given: str, value: Any) -> None:
    """Whatever the value looks like."""
    found = parse_parameters([f"x:{given}"])
    assert found == {"x": value}
    assert type(found["x"]) is type(value)


@pytest.mark.parametrize(
    "given",
    ["int", "float", "decimal", "bool", "date", "time", "datetime", "uuid", "bytes", "json", "null"],
)
def test_a_value_that_is_not_of_its_type(given: str) -> None:
    """The error names the parameter and the type."""
    with pytest.raises(UsageError, match=f"--param p: this is no {given}"):
        parse_parameters([f"p:{given}=x"])


def test_a_name_given_again_is_a_list() -> None:
    """With its values in their order."""
    assert parse_parameters(["a=1", "b=2", "a=x", "a=3"]) == {"a": [1, "x", 3], "b": 2}


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (None, None), (True, True), (2**70, 2**70), (0.1, 0.1), (math.inf, "Infinity"), (-math.inf, "-Infinity"),
        (math.nan, "NaN"), (Decimal("1E+3"), "1000"), (Decimal("1.10"), "1.10"), (Decimal("NaN"), "NaN"),
        (datetime.timedelta(days=1, seconds=2, microseconds=30), "P1DT2.00003S"), (datetime.timedelta(), "P0DT0S"),
        (datetime.time(1, tzinfo=datetime.UTC), "01:00:00+00:00"), (b"\0\1", "AAE="), (Colour.RED, "red"),
        (memoryview(b"\0\1"), "AAE="), ({"a": [Decimal("1.0"), {1: None}]}, {"a": ["1.0", {"1": None}]}),
        (OrderedDict(a=(1, 2)), {"a": [1, 2]}), (1j, "1j"),
    ],
)  # fmt: skip
def test_values_in_json(value: Any, json: Any) -> None:
    """Each as JSON has it, or as text that can be read back."""
    assert as_json(value) == json


def test_values_as_text() -> None:
    """Text as it is, everything else as JSON writes it; a table keeps NULL and the text NULL apart."""
    assert [as_text(one) for one in (None, "x", 1, True, {"ä": [None]})] == [None, "x", "1", "true", '{"ä": [null]}']
    assert [shown(one) for one in (None, "NULL", "", "a\x00b\x9b")] == ["NULL", "'NULL'", "", "a\\x00b\\x9b"]


def test_colons_in_quotes_and_comments_are_no_parameters() -> None:
    """What is quoted reaches the database as it was given; comments do not."""
    sql = "select ' :a \\:b'::text as \"c :d\", $$:e$$ as f, :h as h, e'\\:i'\n from t"
    given = sql.replace(" as f", " as f/* :g */").replace("\n from", " -- :k 'l'\n from") + " -- :j"
    compiled = prepare(given, {"h": 1}).compile(dialect=postgresql.dialect(paramstyle="named"))  # type: ignore[no-untyped-call]
    assert " ".join(str(compiled).split()) == " ".join(sql.replace("f, :h", "f , :h").split())
    assert compiled.params == {"h": None}


def test_a_plan_needs_no_values() -> None:
    """But no other parameters either."""
    assert prepare("select :a, :b", {}, partly=True) is not None
    with pytest.raises(UsageError, match=":c; it has :a, :b"):
        prepare("select :a, :b", {"c": 1}, partly=True)
    with pytest.raises(UsageError, match="it has none"):
        prepare("select 1", {"c": 1})


@pytest.mark.parametrize(
    "sql",
    [
        "select 1", "select 1;", "(select 1) union all select 2", "table a.b", "-- c\nselect 1 /* d */",
        "with a as (select 1) select * from a", "select 'delete from x' as \"update\"", "select replace('a', 'b', 'c')",
    ],
)  # fmt: skip
def test_queries(sql: str) -> None:
    """Whatever they talk of, they write nothing."""
    check_query(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1; delete from a", "grant all on a to b", "vacuum", "set x = 1", "begin", "do $$ begin end $$", "/* */",
        "select * from (insert into a values (1) returning *) x", "lock table a", "refresh materialized view a",
        "merge into a using b on true when matched then delete", "comment on table a is 'x'", "select '",
        "alter table a add b int",
        "with a as (select 1) insert into b select * from a", "with a as (update b set c = 1 returning *) table a",
    ],
)  # fmt: skip
def test_no_queries(sql: str, caplog: pytest.LogCaptureFixture) -> None:
    """Refused, without a word of the parser's."""
    with pytest.raises(UnsupportedQueryError):
        check_query(sql)
    assert caplog.text == ""


def test_no_password_of_the_settings_is_shown(tmp_path: Path) -> None:
    """Neither a service's nor the cache's, percent-encoded or not."""
    file = tmp_path / "fedorm.toml"
    file.write_text(
        "[services.a]\nurl = 'postgresql://bob:hid%2Fden@127.0.0.1:1/x'\n"
        "[cache]\nurl = 'redis://:secret@127.0.0.1:1/0'\n"
    )
    setup = Setup(file)
    setup.read()
    assert setup.scrub("hid%2Fden, hid/den and secret") == "***, *** and ***"
