"""From a text to the tree of one query; whatever else a text may be is refused by name, before anything is asked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

from sqlalchemy import Table
from sqlglot import exp
from sqlglot.errors import SqlglotError

from fedorm.exc import UnknownColumnError, UnroutedStatementError, UnsupportedQueryError
from fedorm.stores.parsing import read_statements

DIALECT = "postgres"
ONE_SERVICE = 'pass bind_arguments={"service": "..."} to execute()'
"""How a text gets to one service as it is."""
_TABLE_FUNCTIONS = (exp.Unnest, exp.GenerateSeries, exp.ExplodingGenerateSeries)
"""What may stand in FROM beside tables and queries; DuckDB has more, which read files."""


def parse(sql: str) -> exp.Query:
    """Return the tree of a query. Raises ``UnsupportedQueryError`` for what is no query, or does more than ask."""
    trees = _trees(sql)
    if len(trees) != 1:
        raise UnsupportedQueryError(f"{len(trees)} statements in one text: run each of them by itself")
    (tree,) = trees
    if not isinstance(tree, exp.Query):
        raise UnsupportedQueryError(
            f"{_kind(tree)} over several services is not possible: write to one service at a time"
        )
    _refuse(tree)
    return tree


def refuse_text(sql: str, services: Collection[str]) -> None:
    """Say what is wrong with a text that is no query, and with which no service was named.

    Returns when the text names none of ``services`` either. Raises ``UnsupportedQueryError`` for what cannot be read,
    for several statements and for a write over several services, ``UnroutedStatementError`` for one over one service.
    """
    trees = _trees(sql)
    if len(trees) > 1 or (trees and isinstance(trees[0], exp.Query)):
        parse(sql)
    named = sorted({table.db for tree in trees for table in tree.find_all(exp.Table)} & set(services))
    if len(named) > 1:
        raise UnsupportedQueryError(
            f"{_kind(trees[0])} over several services ({', '.join(named)}) is not possible: "
            "write to one service at a time"
        )
    if named:
        raise UnroutedStatementError(
            f"{_kind(trees[0])} in plain SQL is sent as it is, in the words of its service: "
            f'pass bind_arguments={{"service": "{named[0]}"}} to execute(), and leave "{named[0]}." out of its names'
        )


def refuse_locks(tree: exp.Query) -> None:
    """Refuse to lock the rows of a query that no single service answers."""
    if tree.find(exp.Lock):
        raise UnsupportedQueryError(
            "FOR UPDATE or FOR SHARE over several services is not possible: lock the rows at each service by a "
            "select of its own first"
        )


def unresolved(error: Exception, tree: exp.Expr, tables: Mapping[tuple[str, str], Table]) -> UnsupportedQueryError:
    """Return what is wrong with a name that could not be resolved; ``tables`` are those of the statement."""
    message = first_line(error)
    found = re.search(r"[Cc]olumn:? '?([^'.]+?)'?(?: could not| in |\.|$)(?:.*for table: '([^']+)')?", message)
    if found is None:
        return UnsupportedQueryError(f"the statement cannot be planned: {message}")
    name, alias = found[1], found[2]
    known = {
        table.alias_or_name: tables[table.db, table.name]
        for table in tree.find_all(exp.Table)
        if (table.db, table.name) in tables
    }
    if alias is not None and alias not in known:
        return UnknownColumnError(
            f"column {alias}.{name}: nothing in FROM is called {alias!r}, but {', '.join(known)}", name=name, near=[]
        )
    holders = [f"{one}.{name}" for one, table in known.items() if name in table.c]
    if len(holders) > 1:
        return UnknownColumnError(
            f"column {name!r} could not be resolved, it is ambiguous: write {' or '.join(holders)}",
            name=name,
            near=holders,
        )
    full = {f"{one}.{column.name}": str(column.name) for one, table in known.items() for column in table.c}
    close = difflib.get_close_matches(name, list(dict.fromkeys(full.values())), n=3)
    near = [one for match in close for one, column in full.items() if column == match][:3]
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    return UnknownColumnError(f"column {name!r} could not be resolved{hint}", name=name, near=near)


def first_line(error: Exception) -> str:
    """Return what an error says, without the excerpt of the statement that sqlglot adds."""
    return str(error).splitlines()[0]


def _trees(sql: str) -> list[exp.Expr]:
    try:
        return read_statements(sql, DIALECT)
    except SqlglotError as error:
        raise UnsupportedQueryError(
            f"the statement cannot be read as SQL: {first_line(error)}; to send it to one service as it is, "
            f"{ONE_SERVICE}"
        ) from error


def _refuse(tree: exp.Query) -> None:
    """Refuse what DuckDB and a service would not, or would take for something else."""
    write = tree.find(exp.DML, exp.DDL, exp.Into)
    if write is not None and not isinstance(write, exp.Query):
        what = "SELECT INTO" if isinstance(write, exp.Into) else f"{_kind(write)} inside of a query"
        raise UnsupportedQueryError(f"{what} is not possible here: to send it to one service as it is, {ONE_SERVICE}")
    for node in tree.find_all(exp.Table, exp.Lateral):
        if isinstance(node.this, exp.Func) and not isinstance(node.this, _TABLE_FUNCTIONS):
            name = node.this.name if isinstance(node.this, exp.Anonymous) else node.this.sql_name()
            raise UnsupportedQueryError(
                f"{name.lower()}() cannot be read like a table in a select over several services, "
                "only unnest() and generate_series() can"
            )
    if tree.find(exp.Parameter) or any(node.args.get("jdbc") for node in tree.find_all(exp.Placeholder)):
        raise UnsupportedQueryError("parameters are written :name, and given by name")


def _kind(tree: exp.Expr) -> str:
    if isinstance(tree, exp.Command):
        return str(tree.this).upper()
    return tree.key.upper().removesuffix("TABLE")
