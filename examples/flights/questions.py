"""Questions that no single one of the four databases can answer; each returns plain rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select

from examples.flights.models import Airport, Flight, Plane, Weather
from fedorm import Federation, federated_load


class Route(NamedTuple):
    """An airline's flights to an airport with one model of plane; mean minutes late there, for each weather here."""

    airline: str
    plane: str
    to: str
    flights: int
    late_fair: float | None
    late_wind: float | None
    late_fog: float | None
    late_rain: float | None
    late_snow: float | None


async def routes(federation: Federation, *, top: int = 12, month: int | None = None) -> list[Route]:
    """Rank airline, model and destination by flights; from PostgreSQL, as a stream that is never all in memory."""
    statement = select(Flight).options(
        federated_load(Flight.airline),
        federated_load(Flight.plane),
        federated_load(Flight.dest_airport),
        federated_load(Flight.weather),
    )
    if month is not None:
        statement = statement.where(Flight.month == month)
    number: Counter[tuple[str, str, str]] = Counter()
    delays: dict[tuple[str, str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    async with federation.session() as session:
        async for flight in await session.stream_scalars(statement, execution_options={"yield_per": 20_000}):
            if flight.plane is None or flight.dest_airport is None:
                continue
            route = (flight.airline.name, flight.plane.label, flight.dest_airport.name)
            number[route] += 1
            if flight.arr_delay is not None and flight.weather is not None:
                delays[route][flight.weather.sky].append(flight.arr_delay)
    ranked = sorted(number.items(), key=lambda item: (-item[1], item[0]))[:top]
    return [
        Route(*route, flights, *(mean(delays[route][sky]) for sky in ("fair", "wind", "fog", "rain", "snow")))
        for route, flights in ranked
    ]


class WetHour(NamedTuple):
    """An hour of heavy rain, and what it did to the flights that were to leave in it."""

    airport: str
    hour: datetime
    inches: float
    flights: int
    cancelled: int
    late: float | None
    airlines: int
    largest_plane: str | None
    farthest: str | None


async def wet_hours(federation: Federation, *, top: int = 12) -> list[WetHour]:
    """Describe the flights of the hours with the most rain or snow; from ClickHouse."""
    statement = (
        select(Weather)
        .order_by(Weather.precip.desc(), Weather.time_hour, Weather.origin)
        .limit(top)
        .options(
            federated_load(Weather.airport),
            federated_load(Weather.flights, Flight.airline),
            federated_load(Weather.flights, Flight.plane),
            federated_load(Weather.flights, Flight.dest_airport),
        )
    )
    async with federation.session() as session:
        hours = (await session.scalars(statement)).all()
        return [_wet_hour(hour) for hour in hours]


def _wet_hour(hour: Weather) -> WetHour:
    flights = hour.flights
    planes = [flight.plane for flight in flights if flight.plane is not None]
    largest = max(planes, key=lambda plane: (plane.seats, plane.label), default=None)
    known = [flight for flight in flights if flight.dest_airport is not None]
    farthest = max(known, key=lambda flight: (flight.distance, flight.dest), default=None)
    return WetHour(
        hour.airport.name,
        hour.time_hour,
        hour.precip,
        len(flights),
        sum(flight.cancelled for flight in flights),
        mean(flight.dep_delay for flight in flights if flight.dep_delay is not None),
        len({flight.airline.name for flight in flights}),
        largest.label if largest else None,
        farthest.dest_airport.name if farthest and farthest.dest_airport else None,
    )


class HighAirport(NamedTuple):
    """An airport in the mountains, who flies there most and how many minutes late in good and in bad weather here."""

    airport: str
    feet: int
    flights: int
    airline: str | None
    plane: str | None
    late_fair: float | None
    late_bad: float | None


async def high_airports(federation: Federation, *, feet: int = 4_000) -> list[HighAirport]:
    """Describe the flights to airports at or above ``feet``, the highest first; from MongoDB."""
    async with federation.session() as session:
        airports = await (
            session.find(Airport, Airport.alt >= feet)
            .options(
                federated_load(Airport.arrivals, Flight.airline),
                federated_load(Airport.arrivals, Flight.plane),
                federated_load(Airport.arrivals, Flight.weather),
            )
            .to_list()
        )
        flown = [airport for airport in airports if airport.arrivals]
        return [_high_airport(airport) for airport in sorted(flown, key=lambda airport: (-airport.alt, airport.faa))]


def _high_airport(airport: Airport) -> HighAirport:
    fair: list[int] = []
    bad: list[int] = []
    for flight in airport.arrivals:
        if flight.arr_delay is not None and flight.weather is not None:
            (fair if flight.weather.sky == "fair" else bad).append(flight.arr_delay)
    return HighAirport(
        airport.name,
        airport.alt,
        len(airport.arrivals),
        most_common(flight.airline.name for flight in airport.arrivals),
        most_common(flight.plane.label for flight in airport.arrivals if flight.plane is not None),
        mean(fair),
        mean(bad),
    )


class OldPlane(NamedTuple):
    """A plane that was built long ago, and the year it had."""

    tailnum: str
    built: int
    plane: str
    airline: str | None
    flights: int
    miles: int
    farthest: str | None
    in_bad_weather: int


async def old_planes(federation: Federation, *, top: int = 12) -> list[OldPlane]:
    """Describe what the oldest planes still do; from MySQL."""
    statement = (
        select(Plane)
        .where(Plane.year.is_not(None))
        .order_by(Plane.year, Plane.tailnum)
        .limit(top)
        .options(
            federated_load(Plane.flights, Flight.airline),
            federated_load(Plane.flights, Flight.dest_airport),
            federated_load(Plane.flights, Flight.weather),
        )
    )
    async with federation.session() as session:
        planes = (await session.scalars(statement)).all()
        return [_old_plane(plane) for plane in planes]


def _old_plane(plane: Plane) -> OldPlane:
    flown = [flight for flight in plane.flights if not flight.cancelled]
    known = [flight for flight in flown if flight.dest_airport is not None]
    farthest = max(known, key=lambda flight: (flight.distance, flight.dest), default=None)
    return OldPlane(
        plane.tailnum,
        plane.year or 0,
        plane.label,
        most_common(flight.airline.name for flight in flown),
        len(flown),
        sum(flight.distance for flight in flown),
        farthest.dest_airport.name if farthest and farthest.dest_airport else None,
        sum(flight.weather is not None and flight.weather.sky != "fair" for flight in flown),
    )


class LooseEnd(NamedTuple):
    """A relationship, and how many flights point to something that is not there."""

    relationship: str
    flights: int
    keys: int
    for_example: str


async def loose_ends(federation: Federation) -> list[LooseEnd]:
    """Count the keys that lead nowhere: nothing but the application holds four databases together."""
    found = []
    for attribute in (Flight.airline, Flight.plane, Flight.origin_airport, Flight.dest_airport, Flight.weather):
        orphans = await federation.orphans(attribute, sample=4)
        sample = ", ".join(sorted(_text(key) for key in orphans.sample))
        found.append(LooseEnd(attribute.name, orphans.rows, orphans.keys, sample))
    return found


def _text(key: str | tuple[str, datetime]) -> str:
    return key if isinstance(key, str) else f"{key[0]} {key[1]:%d %b %H:%M} UTC"


def mean(values: Iterable[int]) -> float | None:
    """Return the mean of ``values``, None without any."""
    given = list(values)
    return sum(given) / len(given) if given else None


def most_common(values: Iterable[str]) -> str | None:
    """Return the value that comes most often, of several the first by the alphabet, None without any."""
    counted = Counter(values)
    return min(counted, key=lambda value: (-counted[value], value)) if counted else None


QUESTIONS: dict[str, Callable[[Federation], Awaitable[Sequence[NamedTuple]]]] = {
    "Which airlines fly which plane models to which airport, and how late in what weather?": routes,
    "What happened to the flights of the wettest hours of the year?": wet_hours,
    "Who flies to the airports in the mountains, with what, and does bad weather in New York make them late?":
        high_airports,
    "What do the oldest planes still do, and how often in bad weather?": old_planes,
    "Which flights point to planes, airports or weather that no one has recorded?": loose_ends,
}  # fmt: skip
