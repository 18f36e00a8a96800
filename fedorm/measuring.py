"""What a session does around each statement that it is given: measures it, says how long its rows may be kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fedorm.cache.results import CACHE_TTL

if TYPE_CHECKING:
    from fedorm.session import FederatedSession

T = TypeVar("T")


def execute_measured(
    session: FederatedSession, execute: Callable[..., T], statement: Any, params: Any, options: dict[str, Any]
) -> T:
    """Run a statement; those that it leads to are a part of it."""
    if session.meter is None or session.is_executing or options.get("_parent_execute_state") is not None:
        return execute(statement, params, **options)
    if session.cache_ttl is not None:
        options["execution_options"] = _with_default(session.cache_ttl, statement, options.get("execution_options"))
    return measured(session, lambda: execute(statement, params, **options), statement)


def measured(session: FederatedSession, run: Callable[[], T], statement: Any) -> T:
    """Run what a statement asks for, and count it."""
    meter = session.meter
    if meter is None or session.is_executing:
        return run()
    session.is_executing, session.crossed = True, False
    try:
        return meter.run(run, statement)
    finally:
        session.is_executing = False
        if session.crossed:
            meter.crossed()


def _with_default(ttl: float, statement: Any, given: Any) -> Any:
    """Add the session's ``cache_ttl`` unless the statement has its own, or is the ORM's: a refresh has to read anew."""
    options = given or {}
    if "_sa_orm_load_options" in options or CACHE_TTL in options:
        return options
    if CACHE_TTL in getattr(statement, "_execution_options", ()):
        return options
    return {**options, CACHE_TTL: ttl}
