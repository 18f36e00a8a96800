"""Patterns in PostgreSQL's words as DuckDB's: those of to_char() and its like, and those of SIMILAR TO."""

from __future__ import annotations

import re

from sqlglot.dialects.postgres import Postgres
from sqlglot.time import format_time

from fedorm.exc import UnsupportedQueryError

_FIXED = {
    "YYYY": "%Y", "YY": "%y", "IYYY": "%G", "MM": "%m", "DDD": "%j", "DD": "%d", "HH24": "%H", "HH12": "%I", "HH": "%I",
    "MI": "%M", "SS": "%S", "MS": "%g", "US": "%f", "IW": "%V", "ID": "%u",
}  # fmt: skip
_CASED = {"Mon": "%b", "Dy": "%a", "AM": "%p", "PM": "%p"}
_FILLED = {
    "FMMonth": "%B", "FMDay": "%A", "FMMon": "%b", "FMDy": "%a", "FMMM": "%-m", "FMDDD": "%-j", "FMDD": "%-d",
    "FMHH24": "%-H", "FMHH12": "%-I", "FMHH": "%-I", "FMMI": "%-M", "FMSS": "%-S", "FMYYYY": "%Y",
}  # fmt: skip
_PARTS = re.compile(
    '"(?P<quoted>[^"]*)"'
    f"|(?P<cased>{'|'.join(sorted([*_FILLED, *_CASED], key=len, reverse=True))})"
    f"|(?P<fixed>(?i:{'|'.join(sorted(_FIXED, key=len, reverse=True))}))"
    '|(?P<plain>[^A-Za-z"])'
)


def strftime_format(parsed: str) -> str:
    """Return the format of ``strftime()`` for one of ``to_char()``, as sqlglot has read it.

    Raises ``UnsupportedQueryError`` for what has no counterpart, or may have none.
    """
    given = format_time(parsed, Postgres.INVERSE_TIME_MAPPING, Postgres.INVERSE_TIME_TRIE) or ""
    made, position = [], 0
    while position < len(given):
        found = _PARTS.match(given, position)
        if found is None:
            raise UnsupportedQueryError(
                f"the format {given!r}: {given[position:]!r} has no counterpart where the statement is finished; "
                'put letters that stand for themselves into double quotes, and write "FM" before Month and Day'
            )
        cased, fixed = found["cased"], found["fixed"]
        if cased is not None:
            made.append((_FILLED | _CASED)[cased])
        elif fixed is not None:
            made.append(_FIXED[fixed.upper()])
        else:
            made.append((found["quoted"] or found["plain"] or "").replace("%", "%%"))
        position = found.end()
    return "".join(made)


def similar_pattern(given: str, escape: str = "\\") -> str:
    """Return the regular expression that matches what SIMILAR TO a pattern is."""
    made, position, inside = [], 0, False
    while position < len(given):
        sign = given[position]
        position += 1
        if sign == escape and position < len(given):
            made.append(re.escape(given[position]))
            position += 1
        elif inside:
            inside = sign != "]"
            made.append("\\\\" if sign == "\\" else sign)
        elif sign == "[":
            inside = True
            made.append(sign)
        elif sign in "%_":
            made.append(".*" if sign == "%" else ".")
        else:
            made.append(sign if sign in "|*+?{}()" or sign.isalnum() else re.escape(sign))
    return f"(?s:{''.join(made)})"
