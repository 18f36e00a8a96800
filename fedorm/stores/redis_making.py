"""Making records of JSON texts while the server is at work on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedorm.hydration import collector_paused
from fedorm.stores.redis_codec import MADE, Codec, Raw


class Making:
    """Is given the texts of records, in the order of their ids, as they come."""

    def __init__(self, codec: Codec, ids: Sequence[Any]) -> None:
        self._codec, self._ids = codec, ids
        self._at = 0
        self._made: list[Any] | None = []

    def __call__(self, texts: Sequence[bytes | None]) -> None:
        """Make records of the next ones; of none any more once one of them was no record."""
        ids = self._ids[self._at : self._at + len(texts)]
        self._at += len(texts)
        there = [text for text in texts if text is not None]
        if len(there) < len(texts):
            ids = [one for one, text in zip(ids, texts, strict=False) if text is not None]
        if self._made is not None and there:
            with collector_paused():
                made = self._codec.made(ids, there)
            self._made = None if made is None else self._made + made

    def put_into(self, found: Sequence[Raw]) -> None:
        """Let each find its record beside what it was made of, if there is one for all."""
        if self._made is not None and len(self._made) == len(found):
            for raw, record in zip(found, self._made, strict=True):
                raw[MADE] = record
