"""``fed.health()``: whether every service answers, and how fast."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Literal

from fedorm.bridge import ThreadBridge
from fedorm.exc import FedormError, ServiceTimeoutError, StoreError
from fedorm.stores.base import Store

_MORE = 2.0
"""For how many seconds more a driver is waited for, which tells better what is wrong."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a service answered: ``round_trip`` in milliseconds, or the ``error`` for which it did not."""

    service: str
    address: str
    state: Literal["up", "down"]
    round_trip: float | None
    error: StoreError | None


class WithHealth:
    """The part of a ``Federation`` that asks its services how they are."""

    stores: dict[str, Store]
    _thread_bridge: ThreadBridge | None
    _asked: dict[str, _Asked] | None = None

    def _require_open(self) -> None:
        raise NotImplementedError

    async def health(self) -> dict[str, Health]:
        """Ask every service at once how it is."""
        self._require_open()

        async def ask(store: Store) -> Health:
            try:
                took = await store.round_trip()
            except StoreError as error:
                return _down(store, error)
            return Health(store.service, store.address, "up", took, None)

        return {state.service: state for state in await asyncio.gather(*map(ask, self.stores.values()))}

    def sync_health(self) -> dict[str, Health]:
        """Do the same as ``health()`` in code that is not async; one that does not answer is waited for as long."""
        if self._thread_bridge is None:
            raise FedormError("the federation is not open for threads: write  with federation:  around sync_health()")
        # One that still waits for an answer is not asked once more: it holds a thread and a connection.
        known = self._asked = self._asked if self._asked is not None else {}
        for name, store in self.stores.items():
            if name not in known or not known[name].is_alive():
                known[name] = _Asked(store, self._thread_bridge)
        found = {}
        for name, store in self.stores.items():
            limit = store.settings.connect_timeout
            known[name].join(max(0.0, known[name].since + limit + _MORE - time.monotonic()))
            found[name] = known[name].health or _down(
                store, store.error(ServiceTimeoutError, f"no answer within {limit:g} s")
            )
        return found


class _Asked(threading.Thread):
    """Asks one service; a daemon, as a server that says nothing must not keep the process from ending."""

    def __init__(self, store: Store, bridge: ThreadBridge) -> None:
        super().__init__(name=f"fedorm-health-{store.service}", daemon=True)
        self._store, self._bridge = store, bridge
        self.health: Health | None = None
        self.since = time.monotonic()
        self.start()

    def run(self) -> None:
        started = time.perf_counter()
        try:
            self._store.ping_sync(self._bridge)
        except StoreError as error:
            self.health = _down(self._store, error)
        except Exception as error:
            self.health = _down(self._store, self._store.error(StoreError, error))
        else:
            took = (time.perf_counter() - started) * 1000
            self.health = Health(self._store.service, self._store.address, "up", took, None)


def _down(store: Store, error: StoreError) -> Health:
    return Health(store.service, store.address, "down", None, error)
