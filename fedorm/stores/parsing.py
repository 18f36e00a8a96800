"""SQL read by sqlglot, which is an extra, without its warnings."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp

_reading = ContextVar("fedorm_reading_sql", default=False)


class _Unheard(logging.Filter):
    """Drops what is said while fedorm reads; whoever uses sqlglot beside it hears its warnings as before."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _reading.get()


logging.getLogger("sqlglot").addFilter(_Unheard())


def read_statements(sql: str, dialect: str | None) -> list[exp.Expr]:
    """Return the trees of the statements in a text; one that cannot be read as more is an ``exp.Command``.

    Raises ``SqlglotError``, and ``ModuleNotFoundError`` where sqlglot is not installed.
    """
    import sqlglot

    token = _reading.set(True)  # It warns of every SHOW, EXPLAIN or CALL; callers look at the tree.
    try:
        return [tree for tree in sqlglot.parse(sql, read=dialect) if tree is not None]
    finally:
        _reading.reset(token)
