"""Joins in parentheses as derived tables: before and after."""

from __future__ import annotations

from typing import Any

import pytest
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify

from fedorm.query.rules.nested import derive_nested_joins

SCHEMA: dict[str, Any] = {name: {"x": "int", "y": "int"} for name in "abcd"}


def rewritten(sql: str) -> str:
    tree = qualify(sqlglot.parse_one(sql, read="postgres"), schema=SCHEMA, dialect="postgres", quote_identifiers=False)
    assert isinstance(tree, exp.Query)
    made = derive_nested_joins(tree).sql(dialect="postgres")
    assert derive_nested_joins(tree).sql(dialect="postgres") == made
    return made.replace('"', "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "SELECT a.x, c.y FROM a LEFT JOIN (b JOIN c ON b.y = c.x) ON a.x = b.x WHERE c.y IS NULL",
            "SELECT a.x AS x, nested_0.c__y AS y FROM a AS a LEFT JOIN (SELECT c.y AS c__y, b.x AS b__x FROM b AS b "
            "JOIN c AS c ON b.y = c.x) AS nested_0 ON a.x = nested_0.b__x WHERE nested_0.c__y IS NULL",
        ),
        (
            "SELECT a.x FROM a LEFT JOIN (b JOIN (c JOIN d ON c.x = d.x) ON b.y = c.y) ON a.x = d.y",
            "SELECT a.x AS x FROM a AS a LEFT JOIN (SELECT nested_1.d__y AS d__y FROM b AS b JOIN (SELECT c.y AS c__y, "
            "d.y AS d__y FROM c AS c JOIN d AS d ON c.x = d.x) AS nested_1 ON b.y = nested_1.c__y) AS nested_0 "
            "ON a.x = nested_0.d__y",
        ),
        (
            "SELECT a.x FROM (b JOIN c ON b.x = c.x) RIGHT JOIN a ON EXISTS (SELECT 1 FROM b WHERE b.x = c.y)",
            "SELECT a.x AS x FROM (SELECT c.y AS c__y FROM b AS b JOIN c AS c ON b.x = c.x) AS nested_0 RIGHT JOIN a "
            "AS a ON EXISTS(SELECT 1 AS 1 FROM b AS b WHERE b.x = nested_0.c__y)",
        ),
        (
            "SELECT a.x FROM a LEFT JOIN (b CROSS JOIN c) ON TRUE",
            "SELECT a.x AS x FROM a AS a LEFT JOIN (SELECT 1 AS fedorm__one FROM b AS b CROSS JOIN c AS c) AS nested_0 "
            "ON TRUE",
        ),
        (
            "SELECT c.x FROM c LEFT JOIN (b JOIN (SELECT c.x FROM c) AS q ON b.x = q.x) ON c.x = b.y",
            "SELECT c.x AS x FROM c AS c LEFT JOIN (SELECT b.y AS b__y FROM b AS b JOIN (SELECT c.x AS x FROM c AS c) "
            "AS q ON b.x = q.x) AS nested_0 ON c.x = nested_0.b__y",
        ),
        ("SELECT a.x FROM a JOIN b ON a.x = b.x", "SELECT a.x AS x FROM a AS a JOIN b AS b ON a.x = b.x"),
    ],
)
def test_joins_in_parentheses(before: str, after: str) -> None:
    """Each becomes a query that is joined; columns are called by their table and their own name."""
    assert rewritten(before) == after
