"""Small parts of statements."""

from __future__ import annotations

from sqlglot import exp

from fedorm.exc import UnsupportedQueryError


def call(name: str, *arguments: exp.Expr) -> exp.Expr:
    """Return a call of a function of DuckDB."""
    return exp.Anonymous(this=name, expressions=list(arguments))


def text(value: str) -> exp.Expr:
    """Return a constant."""
    return exp.Literal.string(value)


def refused(node: exp.Expr, hint: str = "") -> UnsupportedQueryError:
    """Return the error for what DuckDB does not have."""
    written = node.sql(dialect="postgres")
    return UnsupportedQueryError(f"{written} has no counterpart where the statement is finished{hint}")


def not_null(node: exp.Expr) -> exp.Expr:
    """Return the condition that something is not NULL."""
    return exp.Not(this=exp.Is(this=node.copy(), expression=exp.Null()))
