"""How rules do: what ``fed.sync.status()`` returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """One rule. Moments are seconds since 1970, lags how far the target is behind the source."""

    name: str
    source: str
    target: str
    strategy: str
    state: str
    """``new``, ``snapshot``, ``running``, ``streaming``, ``following``, ``waiting``, ``retrying``, ``failed``,
    ``paused`` or ``stopped``."""
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
