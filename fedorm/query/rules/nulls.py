"""NULL first in a top-N is written so that DuckDB's reader of PostgreSQL does not take the rest of the rows away.

DuckDB tells a reader which rows a top-N may still need. Where NULL comes first, its PostgreSQL extension keeps
"IS NULL" of that alone, and the server returns nothing else (https://github.com/duckdb/duckdb-postgres/issues/564).
Of an expression it tells nothing.
"""

from __future__ import annotations

from sqlglot import exp


def order_nulls_apart(tree: exp.Query) -> exp.Query:
    """Write ``ORDER BY x NULLS FIRST LIMIT n`` as ``ORDER BY x IS NULL DESC, x NULLS LAST LIMIT n``, in each query.

    The columns of ``tree`` have to be qualified; it is changed in place, or another one takes its place.
    """
    for query in list(tree.find_all(exp.Query)):
        order = query.args.get("order")
        first = order.expressions[0] if order is not None else None
        if first is None or not query.args.get("limit") or not first.args.get("nulls_first"):
            continue
        made: exp.Select = query if isinstance(query, exp.Select) else _derived(query)
        terms = made.args["order"]
        first = terms.expressions[0]
        missing = exp.Is(this=_meaning(made, first.this), expression=exp.Null())
        first.set("nulls_first", False)
        terms.set("expressions", [exp.Ordered(this=missing, desc=True, nulls_first=False), *terms.expressions])
        if made is not query:
            if query is tree:
                tree = made
            else:
                query.replace(made)
    return tree


def _meaning(select: exp.Select, term: exp.Expr) -> exp.Expr:
    """Return what a term stands for: in an expression DuckDB takes a column for one that is read, not for an output."""
    if isinstance(term, exp.Column) and not term.table:
        for output in select.selects:
            if output.alias_or_name == term.name:
                return exp.paren(output.unalias().copy())
    return exp.paren(term.copy())


def _derived(query: exp.Query) -> exp.Select:
    """Order and limit a UNION, INTERSECT or EXCEPT from outside, where expressions may stand in ORDER BY."""
    outputs = query.named_selects
    names = [f"c{number}" for number in range(len(outputs))]
    inner = query.copy()
    outside = {part: inner.args.get(part) for part in ("order", "limit", "offset")}
    for part in outside:
        inner.set(part, None)
    alias = exp.TableAlias(this=exp.to_identifier("ordered"), columns=[exp.to_identifier(name) for name in names])
    columns = [
        exp.alias_(exp.column(name, table="ordered"), output, quoted=True)
        for name, output in zip(names, outputs, strict=True)
    ]
    made = exp.select(*columns).from_(exp.Subquery(this=inner, alias=alias))
    for part, value in outside.items():
        if value is not None:
            made.set(part, value)
    return made
