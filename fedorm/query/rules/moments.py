"""Dates and times that a statement writes as texts."""

from __future__ import annotations

import datetime

from sqlglot import exp

MOMENTS = frozenset({exp.DType.DATE, exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ})


def moment(given: str, kind: exp.DType) -> datetime.date | None:
    """Return the value of a text as PostgreSQL reads it for a type; None where it is not in ISO 8601.

    Without a zone it is in UTC; where the type has no zone, that of the text counts for nothing.
    """
    try:
        value = datetime.datetime.fromisoformat(given.strip())
    except ValueError:
        return None
    if kind == exp.DType.DATE:
        return value.date()
    if kind == exp.DType.TIMESTAMP:
        return value.replace(tzinfo=None)
    return value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
