"""Trying again: for which errors, how often, and after how long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import exc as sa_exc

from fedorm.exc import (
    InDoubtError,
    PartialCommitError,
    PoolExhaustedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    StaleDocumentError,
)
from fedorm.sagas.marks import MarkTakenError

T = TypeVar("T")
ATTEMPTS = 5
_TRANSIENT = (
    ServiceUnavailableError,
    ServiceTimeoutError,
    PoolExhaustedError,
    StaleDocumentError,
    InDoubtError,
    PartialCommitError,
    MarkTakenError,
)
_SQLSTATES = frozenset({"40001", "40P01", "55P03"})
_MYSQL = frozenset({1205, 1213, 1020})
_SQLITE = ("database is locked", "database table is locked")


def may_pass(error: BaseException) -> bool:
    """Say whether an error may not come again: a lost connection, a deadlock, a conflict of two writers."""
    if isinstance(error, _TRANSIENT):
        return True
    inner: BaseException | None = error
    while inner is not None:
        labelled = getattr(inner, "has_error_label", None)  # PyMongo's
        if labelled is not None and labelled("TransientTransactionError"):
            return True
        if isinstance(inner, sa_exc.DBAPIError):
            state = getattr(inner.orig, "sqlstate", None) or getattr(inner.orig, "pgcode", None)
            number = next(iter(getattr(inner.orig, "args", ())), None)
            return state in _SQLSTATES or number in _MYSQL or str(inner.orig) in _SQLITE
        inner = inner.__cause__
    return False


def pause(failures: int, *, first: float = 0.05, longest: float = 60.0) -> float:
    """Return how many seconds to wait after so many failures: twice as long each time, and never all at once."""
    return min(longest, first * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)  # noqa: S311


async def persist(
    work: Callable[[], Awaitable[T]], *, attempts: int, again: Callable[[BaseException], bool] = may_pass
) -> T:
    """Await ``work`` until it succeeds, ``attempts`` times at most, or fails with an error that would come again."""
    for attempt in range(1, attempts + 1):
        try:
            return await work()
        except Exception as error:
            if attempt == attempts or not again(error):
                raise
        await asyncio.sleep(pause(attempt))
    raise AssertionError("attempts is at least 1")
