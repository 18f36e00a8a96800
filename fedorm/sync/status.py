"""How rules do: what ``fed.sync.status()`` returns."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any

from fedorm.sync.accounts import Account
from fedorm.sync.resolving import ResolvedRule


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """One rule. Moments are seconds since 1970, lags how far the target is behind the source.

    ``lag_seconds`` is how old a change was when it was written, or, of a rule that fails, how long ago the target was
    as the source. ``lag_rows`` are changes that were read from the log and are not committed yet, or rows of a first
    snapshot or a comparison that are left, at most.
    """

    name: str
    source: str
    target: str
    strategy: str
    state: str
    """``new``, ``snapshot``, ``running``, ``streaming``, ``following``, ``waiting``, ``retrying``, ``failed``,
    ``paused``, ``stopped``, or ``unknown`` where a service does not answer."""
    position: str | None = None
    last_sync_at: float | None = None
    synced: int = 0
    deleted: int = 0
    errors: int = 0
    dead_letters: int = 0
    lag_seconds: float | None = None
    lag_rows: int | None = None
    paused: bool = False
    owner: str | None = None
    last_error: str | None = None


class Statuses(list[RuleStatus]):
    """What this process knows; awaited, what the services' accounts say."""

    def __init__(self, known: Iterable[RuleStatus], ask: Callable[[], Awaitable[list[RuleStatus]]]) -> None:
        super().__init__(known)
        self._ask = ask

    def __await__(self) -> Generator[Any, None, list[RuleStatus]]:
        return self._ask().__await__()


def named(rule: ResolvedRule, state: str) -> RuleStatus:
    """Return the status of a rule of which no more is known."""
    return RuleStatus(
        rule.name,
        f"{rule.source.service}.{rule.source.label.rpartition('.')[2]}",
        f"{rule.target.service}.{rule.target.label.rpartition('.')[2]}",
        rule.strategy.name,
        state,
    )


def status_of(rule: ResolvedRule, account: Account, letters: int, position: str | None) -> RuleStatus:
    """Return what a rule's account says."""
    return replace(
        named(rule, _state(account)),
        position=position,
        last_sync_at=account.last_sync_at,
        synced=account.synced,
        deleted=account.deleted,
        errors=account.errors,
        dead_letters=letters,
        lag_seconds=lag_now(account.state, account.last_sync_at, account.lag_seconds),
        lag_rows=account.lag_rows,
        paused=account.paused,
        owner=account.owner if _is_alive(account) else None,
        last_error=account.lost or account.last_error,
    )


def lag_now(state: str, last_sync_at: float | None, lag: float | None) -> float | None:
    """Return how many seconds a target is behind; it grows as long as a rule fails."""
    if state not in ("retrying", "failed") or last_sync_at is None:
        return lag
    return max(0.0, time.time() - last_sync_at) + (lag or 0.0)


def _state(account: Account) -> str:
    """Return what a rule is doing: nothing any more, if who carried it out has not been heard of."""
    if account.lost is not None:
        return "failed"  # Also one that rests: going on is not enough any more.
    if account.paused:
        return "paused"
    return account.state if _is_alive(account) or account.state in ("new", "failed") else "stopped"


def _is_alive(account: Account) -> bool:
    return account.until >= time.time()
