"""The statement that a command is given, held to be one query that writes nothing, with its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import TextClause, bindparam, text
from sqlglot import TokenType, exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError

from fedorm.cli.setup import UsageError
from fedorm.exc import UnsupportedQueryError
from fedorm.stores.parsing import read_statements

_DIALECT = "postgres"
_QUOTED = {
    TokenType.STRING, TokenType.IDENTIFIER, TokenType.HEREDOC_STRING, TokenType.BYTE_STRING, TokenType.NATIONAL_STRING,
    TokenType.RAW_STRING, TokenType.UNICODE_STRING, TokenType.BIT_STRING, TokenType.HEX_STRING,
}  # fmt: skip
_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into, exp.DDL, exp.Drop, exp.Command, exp.Lock)


def prepare(sql: str, values: Mapping[str, Any], *, partly: bool = False) -> TextClause:
    """Return a query for a session, with the parameters that hold lists marked as such.

    Raises ``UnsupportedQueryError`` for what is not one query, or writes, and ``UsageError`` for a parameter that the
    statement does not have, and for one of its own that is not given unless ``partly``.
    """
    check_query(sql)
    statement = text(_shielded(sql))
    own = set(statement._bindparams)
    if unknown := sorted(values.keys() - own):
        raise UsageError(f"the statement has no parameter :{unknown[0]}" + _named(own))
    if (missing := sorted(own - values.keys())) and not partly:
        raise UsageError(f"the statement has the parameter :{missing[0]}: add  --param {missing[0]}=...")
    lists = [name for name, value in values.items() if isinstance(value, list)]
    return statement.bindparams(*(bindparam(name, expanding=True) for name in lists))


def check_query(sql: str) -> None:
    """Raise ``UnsupportedQueryError`` unless a text is one query that writes nothing."""
    try:
        trees = read_statements(sql, _DIALECT)
    except SqlglotError as error:
        raise UnsupportedQueryError(f"the statement cannot be read as SQL: {str(error).splitlines()[0]}") from error
    if len(trees) != 1:
        raise UnsupportedQueryError(f"one statement is expected, and these are {len(trees)}: nothing was run")
    (tree,) = trees
    writing = next(tree.find_all(*_WRITES), None) if isinstance(tree, exp.Query) else tree
    if writing is not None:
        raise UnsupportedQueryError(f"{_verb(writing)} is not a query, and only queries are run here: nothing was run")


def _verb(node: exp.Expr) -> str:
    if isinstance(node, exp.Command):
        return str(node.this).upper()
    if isinstance(node, exp.Into):
        return "SELECT INTO"
    return "SELECT FOR UPDATE" if isinstance(node, exp.Lock) else node.key.upper()


def _shielded(sql: str) -> str:
    """Keep SQLAlchemy from taking colons in quoted text for parameters; leave comments out, which may have some."""
    shielded, end = [], 0
    for token in Postgres().tokenize(sql):
        shielded.append(_space(sql[end : token.start]))
        own = sql[token.start : token.end + 1]
        shielded.append(own.replace(":", "\\:") if token.token_type in _QUOTED else own)
        end = token.end + 1
    return "".join([*shielded, _space(sql[end:])])


def _space(between: str) -> str:
    """Return what is between two words without its comments; messages count lines, which therefore stay."""
    return between if not between.strip() else "\n" * between.count("\n") or " "


def _named(own: set[str]) -> str:
    return f"; it has {', '.join(f':{name}' for name in sorted(own))}" if own else ": it has none"
