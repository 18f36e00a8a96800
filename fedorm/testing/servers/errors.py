"""What can go wrong before a test server answers."""

from __future__ import annotations


class ServerUnavailableError(RuntimeError):
    """A server cannot be had on this machine: says what is missing and how to get it."""

    def __init__(self, server: str, missing: str, remedy: str) -> None:
        super().__init__(f"{server} cannot be started here: {missing}. {remedy}")


class ServerStartError(RuntimeError):
    """A server ended, or did not answer in time: shows the end of its log."""
