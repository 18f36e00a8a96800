"""Counts the commands that are sent to a MongoDB server, whoever sends them over the store's client."""

from __future__ import annotations

from typing import Any

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from fedorm.stats import Recorder

_COUNTED = {"find", "aggregate", "count", "distinct", "insert", "update", "delete", "findAndModify", "getMore"}
"""Those that read or write data; the rest is the client's own."""
_MICROSECOND = 1e-6


class CommandRecorder(CommandListener):
    """Tells a recorder of each command."""

    def __init__(self, sent: Recorder) -> None:
        self._sent = sent

    def started(self, event: CommandStartedEvent) -> None:
        """Do nothing yet."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Count a command, and the documents that came or were changed."""
        if event.command_name in _COUNTED:
            self._sent.done(event.duration_micros * _MICROSECOND, _documents(event.reply))

    def failed(self, event: CommandFailedEvent) -> None:
        """Count an error."""
        if event.command_name in _COUNTED:
            self._sent.failed(event.duration_micros * _MICROSECOND)


def _documents(reply: Any) -> int:
    cursor = reply.get("cursor")
    if cursor is None:
        number = reply.get("n", 0)
        return int(number) if isinstance(number, int | float) else 0
    return len(cursor.get("firstBatch") or cursor.get("nextBatch") or ())
