"""Finds the first rows of a result without reading the rest of the table that they are ordered by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedorm.query.executor import Execution
from fedorm.query.plan import Head
from fedorm.query.reading import number_of

GROWTH = 4
"""How many times larger each part is than the one before it."""
MOST_PARTS = 5
"""After so many parts it is better to read everything."""


def first_rows(
    execution: Execution,
    head: Head,
    parameters: Mapping[str, Any],
    finish: Callable[[Execution], list[tuple[Any, ...]]],
) -> list[tuple[Any, ...]] | None:
    """Return the first rows of the result; None when they are too rare to be found so.

    The step's rows come as one stream, so that they are of one moment, and no row is met twice.
    """
    wanted = number_of(head.limit, parameters)
    found: list[tuple[Any, ...]] = []
    size, number = max(head.part, wanted), 0
    with execution.stream(head.step) as stream:
        while len(found) < wanted:
            if number == MOST_PARTS:
                return None
            rows = stream(size)
            if not rows:
                break
            execution.forget(head.step, rows)
            execution.read()
            found += finish(execution)
            size, number = size * GROWTH, number + 1
    skipped = number_of(head.offset, parameters) if head.offset is not None else 0
    return found[skipped:wanted]
