"""Tables for people: with colours on a terminal, plain where the output goes elsewhere."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedorm.cli.values import as_text, is_number

Row = Sequence[Any]


def console() -> Console:
    """Return the terminal; made anew, as stdout may be another one by now."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def show_table(names: Sequence[str], rows: Sequence[Row]) -> None:
    """Write a table to stdout."""
    numbers = [_is_numeric(rows, place) for place in range(len(names))]
    terminal = console()
    if not terminal.is_terminal:
        write_plain(sys.stdout, names, rows)
        return
    table = Table(box=box.ROUNDED, header_style="bold cyan", border_style="bright_black")
    for name, number in zip(names, numbers, strict=True):
        table.add_column(Text(printable(name)), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_styled(value) for value in row))
    terminal.print(table)


def write_plain(file: TextIO, names: Sequence[str], rows: Sequence[Row]) -> None:
    """Write a table without colours, as wide as it has to be: header, rule, rows."""
    cells = [[printable(name) for name in names]]
    cells += [[_one_line(shown(value)) for value in row] for row in rows]
    widths = [max(_width(row[place]) for row in cells) for place in range(len(names))]
    numbers = [_is_numeric(rows, place) for place in range(len(names))]
    for index, row in enumerate(cells):
        padded = [
            " " * (width - _width(cell)) + cell if number else cell + " " * (width - _width(cell))
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ]
        file.write(" | ".join(padded).rstrip() + "\n")
        if index == 0:
            file.write("-+-".join("-" * width for width in widths) + "\n")


def shown(value: Any) -> str:
    """Return what a table shows: NULL for None, and the text NULL in quotes."""
    text = as_text(value)
    if text is None:
        return "NULL"
    return f"'{text}'" if text == "NULL" else printable(text)


def _styled(value: Any) -> Text:
    if value is None:
        return Text("NULL", style="dim italic")
    if isinstance(value, bool):
        return Text(shown(value), style="magenta")
    return Text(shown(value), style="green" if is_number(value) else "")


def _is_numeric(rows: Sequence[Row], place: int) -> bool:
    values = [row[place] for row in rows if row[place] is not None]
    return bool(values) and all(map(is_number, values))


def printable(text: str) -> str:
    """Write control characters as codes: a terminal would obey what a row of a database says."""
    return "".join(
        sign if sign in "\n\t" or unicodedata.category(sign) not in ("Cc", "Cf", "Cs") else f"\\x{ord(sign):02x}"
        for sign in text
    )


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\t", "\\t")


def _width(text: str) -> int:
    """Return how many places text takes: those of East Asia two, accents of their own none."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )
