"""Blocks of columns in ClickHouse's native format, as clickhouse-driver writes them, for a request over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clickhouse_driver.block import ColumnOrientedBlock
from clickhouse_driver.bufferedwriter import BufferedSocketWriter
from clickhouse_driver.client import Client
from clickhouse_driver.connection import ServerInfo
from clickhouse_driver.streams.native import BlockOutputStream

_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class NativeColumns:
    """The names and the server's types of columns, and the server's own time zone."""

    columns: Sequence[tuple[str, str]]
    zone: str

    def block(self, values: Sequence[Sequence[Any]]) -> bytes:
        """Return one block of ``FORMAT Native``; raises the driver's errors for values that are of another type."""
        context = Client("").connection.context  # Of the driver's own settings, and never connected.
        # Revision 0: over HTTP a block has nothing before it.
        context.server_info = ServerInfo("", 0, 0, 0, 0, self.zone, "", 0)
        written = _Written()
        stream = BlockOutputStream(BufferedSocketWriter(written, _BUFFER), context)
        # Lists of its own: the driver changes what it is given.
        stream.write(ColumnOrientedBlock(list(self.columns), [list(one) for one in values]))
        return b"".join(written.parts)


class _Written:
    """Takes the place of a socket."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        """Keep a copy: the driver uses its buffer again."""
        self.parts.append(bytes(data))
