"""What the statements in a binary log are about, as far as a feed has to know."""

from __future__ import annotations

import re

_FIRST = re.compile(r"(?:\s|/\*(?!!).*?\*/|(?:--\s|#)[^\n]*(?:\n|$))*([A-Za-z]+)", re.DOTALL)


def first_word(query: str) -> str:
    """Return the statement's first word behind comments, in capitals; nothing where there is none."""
    found = _FIRST.match(query)
    return found[1].upper() if found else ""


def truncated_table(query: str, schema: str) -> tuple[str, str] | None:
    """Return the schema and the name of the table that a TRUNCATE has emptied; ``schema`` is where it was run."""
    from sqlglot import Dialect, TokenType

    # Not parsed: sqlglot does not know MariaDB's WAIT, which may follow.
    tokens = Dialect.get_or_raise("mysql").tokenize(query)[1:]
    if tokens and tokens[0].token_type is TokenType.TABLE:
        tokens = tokens[1:]
    if not tokens:
        return None
    if len(tokens) > 2 and tokens[1].token_type is TokenType.DOT:
        return tokens[0].text, tokens[2].text
    return schema, tokens[0].text


def mentions(query: str, name: str) -> bool:
    """Say whether a name stands in the statement."""
    return name.lower() in query.lower()
