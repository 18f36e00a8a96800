"""Random expressions over the columns of two tables, as hypothesis draws them; all are valid in PostgreSQL."""

from __future__ import annotations

from hypothesis import strategies as st

COLUMNS = {
    "int": ["i", "j", "k"],
    "num": ["n", "m"],
    "float": ["f"],
    "text": ["t", "u"],
    "bool": ["b"],
    "date": ["d"],
    "moment": ["ts"],
    "instant": ["tz"],
}
LITERALS = {
    "int": ["0", "1", "-7", "3", "NULL::int"],
    "num": ["0.5", "-2.25", "10.10", "NULL::numeric(10, 2)"],
    "float": ["0.1::float8", "2.5::float8", "NULL::float8"],
    "text": ["''", "'x'", "'X '", "'ä_%'", "NULL::text"],
    "bool": ["true", "false", "NULL::boolean"],
    "date": ["(DATE '2024-02-29')", "NULL::date"],
    "moment": ["(TIMESTAMP '2024-01-31 12:30:15.25')", "NULL::timestamp"],
    "instant": ["(TIMESTAMPTZ '2024-03-31 00:30:00+00')", "NULL::timestamptz"],
}
# {0}, {1}: further expressions, of the kinds that follow.
FORMS: dict[str, list[tuple[str, ...]]] = {
    "int": [
        ("({0} + {1})", "small", "small"),
        ("({0} - {1})", "small", "small"),
        ("({0} / nullif({1}, 0))", "int", "int"),
        ("({0} % nullif({1}, 0))", "int", "int"),
        ("abs({0})", "int"),
        ("length({0})", "text"),
        ("position({0} IN {1})", "text", "text"),
        ("({0} - {1})", "date", "date"),
        ("ascii({0})", "text"),
        ("CASE WHEN {0} THEN {1} END", "bool", "int"),
        ("coalesce({0}, {1})", "int", "int"),
        ("extract(year FROM {0})::int", "date"),
        ("extract(isodow FROM {0})::int", "moment"),
        ("greatest({0}, {1})", "int", "int"),
        ("nullif({0}, {1})", "int", "int"),
        ("sign({0})::int", "int"),
        ("round({0})::bigint", "num"),
        ("{0}::int", "bool"),
    ],
    "num": [
        ("({0} + {1})", "num", "num"),
        ("({0} * 2)", "num"),
        ("({0} * {1})", "num", "small"),
        ("({0} - {1})", "num", "int"),
        ("round({0}, 1)", "num"),
        ("trunc({0})", "num"),
        ("ceil({0})", "num"),
        ("abs({0})", "num"),
        ("({0} % nullif({1}, 0))", "column", "column"),
        ("coalesce({0}, {1})", "num", "num"),
        ("least({0}, {1})", "num", "num"),
        ("({0} / nullif({1}, 0))", "num", "num"),
        ("div({0}, nullif({1}, 0))", "column", "column"),
        ("{0}::numeric", "int"),
    ],
    "float": [
        ("({0} + {1})", "float", "float"),
        ("({0} * 2)", "float"),
        ("({0} / nullif({1}, 0))", "float", "float"),
        ("round({0})", "float"),
        ("floor({0})", "float"),
        ("{0}::float8", "num"),
        ("sqrt(abs({0}))", "float"),
        ("coalesce({0}, {1})", "float", "num"),
    ],
    "text": [
        ("({0} || {1})", "text", "text"),
        ("concat({0}, {1}, {2})", "text", "bool", "int"),
        ("lower({0})", "text"),
        ("substring({0}, {1}, 2)", "text", "small"),
        ("left({0}, 2)", "text"),
        ("right({0}, 1)", "text"),
        ("replace({0}, 'x', {1})", "text", "text"),
        ("{0}::text", "int"),
        ("{0}::text", "bool"),
        ("{0}::text", "float"),
        ("{0}::text", "date"),
        ("{0}::varchar(2)", "text"),
        ("trim({0})", "text"),
        ("lpad({0}, 4, '*')", "text"),
        ("split_part({0}, '_', 1)", "text"),
        ("coalesce({0}, {1})", "text", "text"),
        ("nullif({0}, '')", "text"),
        ("greatest({0}, {1})", "text", "text"),
        ("to_char({0}, 'YYYY-MM-DD HH24:MI:SS')", "moment"),
        ("reverse({0})", "text"),
    ],
    "bool": [
        ("({0} = {1})", "text", "text"),
        ("({0} < {1})", "text", "text"),
        ("({0} >= {1})", "num", "int"),
        ("({0} < {1})", "float", "num"),
        ("({0} <> {1})", "int", "int"),
        ("({0} AND {1})", "bool", "bool"),
        ("({0} OR {1})", "bool", "bool"),
        ("(NOT {0})", "bool"),
        ("({0} IS TRUE)", "bool"),
        ("({0} IS NOT FALSE)", "bool"),
        ("({0} LIKE 'x%')", "text"),
        ("({0} LIKE '%\\_%')", "text"),
        ("({0} ~ '^[a-zA-Z]')", "text"),
        ("({0} SIMILAR TO '(x|a)%')", "text"),
        ("({0} IS DISTINCT FROM {1})", "int", "int"),
        ("({0} IS NULL)", "text"),
        ("({0} IN ({1}, {2}))", "int", "int", "int"),
        ("({0} NOT IN ({1}, {2}))", "text", "text", "text"),
        ("({0} BETWEEN {1} AND {2})", "date", "date", "date"),
        ("({0} < {1})", "moment", "date"),
        ("({0} >= {1})", "instant", "moment"),
        ("(({0}, {1}) = ({1}, {0}))", "int", "int"),
        ("(({0}, {1}) < ({1}, {0}))", "int", "int"),
        ("({0} BETWEEN {1} AND {2})", "num", "num", "float"),
    ],
    "date": [
        ("({0} + {1})", "date", "small"),
        ("{0}::date", "moment"),
        ("{0}::date", "instant"),
        ("coalesce({0}, {1})", "date", "date"),
        ("greatest({0}, {1})", "date", "date"),
    ],
    "moment": [
        ("({0} + interval '1 month')", "date"),
        ("({0} - interval '36 hours')", "moment"),
        ("date_trunc('hour', {0})", "moment"),
        ("({0} AT TIME ZONE 'Europe/Berlin')", "instant"),
        ("{0}::timestamp", "date"),
    ],
    "instant": [
        ("date_trunc('day', {0})", "instant"),
        ("({0} + interval '1 day')", "instant"),
        ("{0}::timestamptz", "date"),
        ("({0} AT TIME ZONE 'Europe/Berlin')", "moment"),
    ],
}


@st.composite
def expressions(draw: st.DrawFn, kind: str, *, depth: int = 2) -> str:
    """An expression of a kind, with others inside it."""
    if kind == "small":
        return draw(st.sampled_from(["x.j", "y.j", "0", "1", "-2", "3"]))
    if kind == "column":
        return draw(st.sampled_from(["x.n", "y.n", "x.m", "y.m"]))
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        columns = [f"{alias}.{name}" for alias in ("x", "y") for name in COLUMNS[kind]]
        return draw(st.one_of(st.sampled_from(columns), st.sampled_from(columns), st.sampled_from(LITERALS[kind])))
    form, *inner = draw(st.sampled_from(FORMS[kind]))
    return form.format(*[draw(expressions(one, depth=depth - 1)) for one in inner])
