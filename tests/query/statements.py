"""Random statements over three small tables, as hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st

COLUMNS = {"k": "int", "i": "int", "t": "text", "n": "num", "d": "date"}
TABLES = {"a": "left_side.a", "e": "left_side.e", "b": "middle.b", "c": "right_side.c"}
LITERALS = {
    "int": ["0", "1", "2", "-1", "NULL"],
    "text": ["'x'", "'X'", "'y '", "'y'", "''", "NULL"],
    "num": ["0", "1.5", "-2.25", "NULL"],
    "date": ["DATE '2024-01-01'", "DATE '2024-02-29'", "NULL"],
}


@st.composite
def scalars(draw: st.DrawFn, aliases: list[str], kind: str, *, depth: int = 1) -> str:
    """A column or a literal of a type, or something made of them."""
    columns = [f"{alias}.{name}" for alias in aliases for name, of in COLUMNS.items() if of == kind]
    simple = st.one_of(st.sampled_from(columns), st.sampled_from(columns), st.sampled_from(LITERALS[kind]))
    if depth == 0 or draw(st.integers(0, 3)):
        return draw(simple)
    inner = scalars(aliases, kind, depth=depth - 1)
    if kind == "int":
        return f"({draw(inner)} {draw(st.sampled_from(['+', '-', '*']))} {draw(inner)})"
    if kind == "text":
        return draw(st.sampled_from(["upper({})", "coalesce({}, 'x')", "({} || 'z')"])).format(draw(inner))
    if kind == "num":
        return f"coalesce({draw(inner)}, 0)"
    return f"coalesce({draw(inner)}, DATE '2024-01-01')"


@st.composite
def predicates(draw: st.DrawFn, aliases: list[str], *, depth: int = 2, subqueries: bool = True) -> str:
    """A condition, with NULLs, nested as deep as ``depth``."""
    kind = draw(st.sampled_from(list(LITERALS)))
    one, two = scalars(aliases, kind), scalars(aliases, kind)
    forms = ["compare", "compare", "null", "in", "between", "like"]
    forms += ["and", "or", "not"] if depth else []
    forms += ["exists", "in_query", "not_in_query"] if subqueries and depth else []
    form = draw(st.sampled_from(forms))
    again = predicates(aliases, depth=max(0, depth - 1), subqueries=subqueries)
    if form == "compare":
        return f"{draw(one)} {draw(st.sampled_from(['=', '<>', '<', '<=', '>', '>=']))} {draw(two)}"
    if form == "null":
        return f"{draw(one)} IS {draw(st.sampled_from(['', 'NOT ']))}NULL"
    if form == "in":
        listed = ", ".join(draw(st.lists(st.sampled_from(LITERALS[kind]), min_size=1, max_size=3)))
        return f"{draw(one)} {draw(st.sampled_from(['', 'NOT ']))}IN ({listed})"
    if form == "between":
        return f"{draw(one)} BETWEEN {draw(two)} AND {draw(two)}"
    if form == "like":
        pattern = draw(st.sampled_from(["'x%'", "'%y%'", "'_'", "'X'", "''"]))
        return f"{draw(scalars(aliases, 'text'))} {draw(st.sampled_from(['', 'NOT ']))}LIKE {pattern}"
    if form in ("and", "or"):
        return f"({draw(again)} {form.upper()} {draw(again)})"
    if form == "not":
        return f"NOT ({draw(again)})"
    table = draw(st.sampled_from(list(TABLES.values())))
    inside = draw(predicates(["s"], depth=0, subqueries=False))
    if form == "exists":
        outer = draw(st.sampled_from(aliases))
        return f"EXISTS (SELECT 1 FROM {table} s WHERE s.i = {outer}.i AND {inside})"
    column = next(name for name, of in COLUMNS.items() if of == kind and name != "k")
    negation = "NOT " if form == "not_in_query" else ""
    return f"{draw(one)} {negation}IN (SELECT s.{column} FROM {table} s WHERE {inside})"


@st.composite
def sources(draw: st.DrawFn) -> tuple[str, list[str]]:
    """One to three tables, joined in every way."""
    aliases: list[str] = []
    text = ""
    for number in range(draw(st.integers(1, 3))):
        alias = f"x{number}"
        table = f"{draw(st.sampled_from(list(TABLES.values())))} {alias}"
        if not aliases:
            text = table
        else:
            kind = draw(st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]))
            near = draw(st.sampled_from(aliases))
            column = draw(st.sampled_from(["i", "k", "t", "d"]))
            condition = f"{near}.{column} = {alias}.{column}"
            if draw(st.booleans()) and kind != "FULL JOIN":
                condition += f" AND {draw(predicates([near, alias], depth=0, subqueries=False))}"
            text += f" {kind} {table}" + ("" if kind == "CROSS JOIN" else f" ON {condition}")
        aliases.append(alias)
    return text, aliases


@st.composite
def selects(draw: st.DrawFn) -> str:
    """A whole statement; its rows are compared as a bag, and in order where all columns are ordered by."""
    source, aliases = draw(sources())
    where = f" WHERE {draw(predicates(aliases))}" if draw(st.booleans()) else ""
    if draw(st.integers(0, 2)) == 0:
        key = draw(st.sampled_from([f"{alias}.{name}" for alias in aliases for name in ("i", "t", "d")]))
        number = f"{draw(st.sampled_from(aliases))}.{draw(st.sampled_from(['k', 'i']))}"
        other = draw(st.sampled_from([f"{alias}.{name}" for alias in aliases for name in ("i", "t", "n", "d")]))
        having = " HAVING count(*) > 1" if draw(st.booleans()) else ""
        return (
            f"SELECT {key} AS g, count(*) AS c, count(DISTINCT {other}) AS cd, min({other}) AS lo, max({other}) AS hi, "
            f"sum({number}) AS s FROM {source}{where} GROUP BY {key}{having}"
        )
    kinds = draw(st.lists(st.sampled_from(list(LITERALS)), min_size=1, max_size=4))
    columns = [draw(scalars(aliases, kind)) for kind in kinds]
    listed = ", ".join(f"{column} AS r{number}" for number, column in enumerate(columns))
    distinct = "DISTINCT " if draw(st.integers(0, 3)) == 0 else ""
    text = f"SELECT {distinct}{listed} FROM {source}{where}"
    if draw(st.integers(0, 3)) == 0:
        second, others = draw(sources())
        again = ", ".join(f"{draw(scalars(others, kind))} AS r{number}" for number, kind in enumerate(kinds))
        operation = draw(st.sampled_from(["UNION", "UNION ALL", "INTERSECT", "EXCEPT"]))
        return f"{text} {operation} SELECT {again} FROM {second}"
    if draw(st.booleans()):
        order = ", ".join(
            f"r{number}{draw(st.sampled_from(['', ' DESC', ' NULLS FIRST']))}" for number in range(len(kinds))
        )
        text += f" ORDER BY {order}"
        if draw(st.booleans()):
            text += f" LIMIT {draw(st.integers(0, 5))} OFFSET {draw(st.integers(0, 2))}"
    return text


@st.composite
def pages(draw: st.DrawFn) -> str:
    """A page of one table's rows, joined with another's; of rows that are alike it does not matter which."""
    first, second = draw(st.lists(st.sampled_from(list(TABLES.values())), min_size=2, max_size=2, unique=True))
    joined = draw(st.sampled_from(["JOIN", "JOIN", "LEFT JOIN"]))
    key = draw(st.sampled_from(["i", "k"]))
    where = ""
    if draw(st.booleans()):
        aliases = ["x0"] if joined == "LEFT JOIN" and draw(st.booleans()) else ["x0", "x1"]
        where = f" WHERE {draw(predicates(aliases, depth=1, subqueries=False))}"
    way = st.sampled_from(["", " DESC", " NULLS FIRST", " DESC NULLS LAST"])
    ordered = ", ".join(f"x0.{column}{draw(way)}" for column in draw(st.permutations(["i", "n", "d", "k"])))
    offset = draw(st.sampled_from(["", " OFFSET 1", " OFFSET 4"]))
    return (
        f"SELECT x0.k AS k, x0.i AS i, x0.d AS d FROM {first} x0 {joined} {second} x1 ON x0.i = x1.{key}{where}"
        f" ORDER BY {ordered} LIMIT {draw(st.integers(0, 9))}{offset}"
    )


@st.composite
def totals(draw: st.DrawFn) -> str:
    """Aggregates of one table's rows by what another one says of them."""
    first, second = draw(st.lists(st.sampled_from(list(TABLES.values())), min_size=2, max_size=2, unique=True))
    possible = ["count(*)", "count(x0.i)", "sum(x0.i)", "min(x0.d)", "max(x0.n)", "max(x0.k)", "sum(x0.k)"]
    if first != TABLES["c"]:
        possible.append("sum(x0.n)")  # Sums of floats depend on their order.
    chosen = draw(st.lists(st.sampled_from(possible), min_size=1, max_size=4))
    outputs = [f"{one} AS a{number}" for number, one in enumerate(chosen)]
    group = draw(st.sampled_from(["", "x1.i", "x1.t", "x0.i", "x1.d, x0.d"]))
    keys = [f"{one.strip()} AS g{number}" for number, one in enumerate(group.split(","))] if group else []
    where = f" WHERE {draw(predicates(['x0', 'x1'], depth=1, subqueries=False))}" if draw(st.booleans()) else ""
    having = f" HAVING {draw(st.sampled_from(['count(*) > 1', 'sum(x0.i) > 0']))}" if draw(st.booleans()) else ""
    return (
        f"SELECT {', '.join([*keys, *outputs])} FROM {first} x0 JOIN {second} x1 ON x0.{draw(st.sampled_from('ik'))}"
        f" = x1.{draw(st.sampled_from('ik'))}{where}" + (f" GROUP BY {group}" if group else "") + having
    )
