"""Rows written in batches, as they come: CSV, JSON, and a JSON object a line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, BinaryIO

from fedorm.cli.values import as_json, as_text, dump
from fedorm.exc import UnsupportedQueryError

Row = Sequence[Any]


class Writer(ABC):
    """Writes a result: ``start`` once, ``write`` for each batch, ``finish`` once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @abstractmethod
    def start(self, names: Sequence[str]) -> None:
        """Write what comes before the rows."""

    @abstractmethod
    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows."""

    def finish(self) -> None:
        """Write what comes after the rows."""
        self._put("")

    def _put(self, text: str) -> None:
        self._file.write(text.encode("utf-8"))


class CSVWriter(Writer):
    """Comma-separated values in UTF-8, as PostgreSQL's COPY writes them.

    NULL is nothing at all and the empty text ``""``. ``null`` is written for NULL instead where it is given; the same
    as a text is then quoted.
    """

    def __init__(self, file: BinaryIO, null: str = "") -> None:
        super().__init__(file)
        self._null = null

    def start(self, names: Sequence[str]) -> None:
        """Write the names."""
        self._put(",".join(map(self._field, names)) + "\n")

    def write(self, rows: Sequence[Row]) -> None:
        """Write a line a row."""
        self._put("".join(",".join(self._field(as_text(value)) for value in row) + "\n" for row in rows))

    def _field(self, text: str | None) -> str:
        if text is None:
            return self._null
        if text in ("", self._null) or text[0] == " " or text[-1] == " " or any(sign in text for sign in ',"\n\r'):
            return '"' + text.replace('"', '""') + '"'
        return text


class JSONLinesWriter(Writer):
    """One JSON object a line."""

    _names: Sequence[str]

    def start(self, names: Sequence[str]) -> None:
        """Keep the names, which are the keys of every object."""
        refuse_duplicates(names)
        self._names = names

    def write(self, rows: Sequence[Row]) -> None:
        """Write a line a row."""
        self._put("".join(f"{self._object(row)}\n" for row in rows))

    def _object(self, row: Row) -> str:
        return dump({name: as_json(value) for name, value in zip(self._names, row, strict=True)})


class JSONWriter(JSONLinesWriter):
    """One JSON array of objects."""

    _between = "["

    def write(self, rows: Sequence[Row]) -> None:
        """Write an object a row, with what separates them."""
        for row in rows:
            self._put(f"{self._between}\n{self._object(row)}")
            self._between = ","

    def finish(self) -> None:
        """Close the array."""
        self._put("[]\n" if self._between == "[" else "\n]\n")


def refuse_duplicates(names: Sequence[str]) -> None:
    """Raise ``UnsupportedQueryError`` for names that an object can have only once."""
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise UnsupportedQueryError(
            f"several columns are called {twice[0]!r}, of which this format would keep one: name them with AS"
        )
