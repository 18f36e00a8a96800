"""A federation that is opened for threads once in a process, when it is first needed."""

from __future__ import annotations

import atexit
import os
import threading

from fedorm.exc import FederationOpenError, FedormError
from fedorm.federation import Federation, Health
from fedorm.integrations.reports import states_at_opening


class OpenInProcess:
    """Opens a federation at first use, as a server may fork before, and closes it with the process."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self._lock = threading.RLock()
        self._process = 0

    def opened(self) -> Federation:
        """Return the federation, open for threads. Raises ``FedormError`` if it was opened before a fork."""
        with self._lock:
            if self._process not in (0, os.getpid()):
                raise FedormError(
                    "the federation was opened before the server has forked: do not use it at import time"
                )
            if not self._process:
                self.federation.__enter__()
                self._process = os.getpid()
                atexit.register(self.close)
        return self.federation

    def health(self) -> dict[str, Health]:
        """Ask every service how it is; one that keeps the federation from being opened is down."""
        try:
            return self.opened().sync_health()
        except FederationOpenError as error:
            return states_at_opening(self.federation, error)

    def close(self) -> None:
        """Close it, if this process has opened it; the next use opens it again."""
        with self._lock:
            if self._process != os.getpid():
                return
            atexit.unregister(self.close)
            self._process = 0
            self._close()

    def _close(self) -> None:
        self.federation.__exit__(None, None, None)
