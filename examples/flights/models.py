"""Four services: flights (PostgreSQL), the fleet (MySQL), airports (MongoDB) and the weather (ClickHouse)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from beanie import Indexed
from sqlalchemy import DateTime, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import Federated, FederatedBase, FederatedDocument, federated_relationship


class Flight(FederatedBase):
    """A flight that was planned from one of New York's airports; what has not happened, as it was cancelled, is None.

    Delays and ``air_time`` are in minutes, negative when early, and ``distance`` is in miles.
    """

    __service__ = "flights"
    __tablename__ = "flights"
    __table_args__ = (Index("ix_flights_weather", "origin", "time_hour"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # The date and the times of day are New York's.
    year: Mapped[int]
    month: Mapped[int]
    day: Mapped[int]
    dep_time: Mapped[int | None]
    sched_dep_time: Mapped[int]
    dep_delay: Mapped[int | None]
    arr_time: Mapped[int | None]
    sched_arr_time: Mapped[int]
    arr_delay: Mapped[int | None]
    carrier: Mapped[str] = mapped_column(String(2))
    flight: Mapped[int]
    tailnum: Mapped[str | None] = mapped_column(String(6), index=True)
    origin: Mapped[str] = mapped_column(String(3))
    dest: Mapped[str] = mapped_column(String(3), index=True)
    air_time: Mapped[int | None]
    distance: Mapped[int]
    hour: Mapped[int]
    minute: Mapped[int]
    time_hour: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    airline: Federated[Airline] = federated_relationship(local_key="carrier")
    plane: Federated[Plane | None] = federated_relationship(local_key="tailnum", back_populates="flights")
    origin_airport: Federated[Airport] = federated_relationship(local_key="origin", remote_key="faa")
    dest_airport: Federated[Airport | None] = federated_relationship(
        local_key="dest", remote_key="faa", back_populates="arrivals"
    )
    weather: Federated[Weather | None] = federated_relationship(
        local_key=("origin", "time_hour"), remote_key=("origin", "time_hour"), back_populates="flights"
    )

    @property
    def cancelled(self) -> bool:
        """Whether it never left."""
        return self.dep_time is None


class Airline(FederatedBase):
    """An airline by its two-letter code."""

    __service__ = "fleet"
    __tablename__ = "airlines"

    carrier: Mapped[str] = mapped_column(String(2), primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Plane(FederatedBase):
    """A plane by its tail number; ``year`` is the one it was built in, ``speed`` in miles an hour."""

    __service__ = "fleet"
    __tablename__ = "planes"

    tailnum: Mapped[str] = mapped_column(String(6), primary_key=True)
    year: Mapped[int | None]
    type: Mapped[str] = mapped_column(String(50))
    manufacturer: Mapped[str] = mapped_column(String(50))
    model: Mapped[str] = mapped_column(String(50))
    engines: Mapped[int]
    seats: Mapped[int]
    speed: Mapped[int | None]
    engine: Mapped[str] = mapped_column(String(50))

    flights: Federated[list[Flight]] = federated_relationship(
        remote_key="tailnum", order_by="id", back_populates="plane"
    )

    @property
    def label(self) -> str:
        """Manufacturer and model: ``BOEING 737-824``."""
        return f"{self.manufacturer} {self.model}"


class Airport(FederatedDocument):
    """An airport by its FAA code; ``alt`` is in feet."""

    __service__ = "airports"

    faa: Annotated[str, Indexed(unique=True)]
    name: str
    lat: float
    lon: float
    alt: int
    tz: int
    dst: str
    tzone: str | None

    arrivals: Federated[list[Flight]] = federated_relationship(
        local_key="faa", remote_key="dest", order_by="id", back_populates="dest_airport"
    )

    class Settings:
        name = "airports"


class Weather(FederatedBase):
    """An hour at one of New York's airports, in °F, miles an hour, inches of rain or snow, millibars, miles seen."""

    __service__ = "weather"
    __tablename__ = "weather"

    origin: Mapped[str] = mapped_column(String(3), primary_key=True)
    time_hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    year: Mapped[int]
    month: Mapped[int]
    day: Mapped[int]
    hour: Mapped[int]
    temp: Mapped[float | None]
    dewp: Mapped[float | None]
    humid: Mapped[float | None]
    wind_dir: Mapped[float | None]
    wind_speed: Mapped[float | None]
    wind_gust: Mapped[float | None]
    precip: Mapped[float]
    pressure: Mapped[float | None]
    visib: Mapped[float]

    airport: Federated[Airport] = federated_relationship(local_key="origin", remote_key="faa")
    flights: Federated[list[Flight]] = federated_relationship(
        remote_key=("origin", "time_hour"), order_by="id", back_populates="weather"
    )

    @property
    def sky(self) -> str:
        """The hour in one word, the worst first."""
        if self.precip > 0:
            return "snow" if self.temp is not None and self.temp <= 34 else "rain"
        if self.visib < 3:
            return "fog"
        # One hour is on record with 1,048 miles an hour.
        return "wind" if self.wind_speed is not None and 20 <= self.wind_speed < 200 else "fair"
