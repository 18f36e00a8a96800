"""What a federation has done: figures over a bounded window, and the hooks by which it is watched."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from math import ceil, fsum
from threading import Lock
from time import perf_counter
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


WHOLE = "statement"
"""What the step of a statement is called that one service answers, or that another step consists of."""


class Observed(Protocol):
    """A statement or a step that runs; ``rows`` may be set when it has returned some."""

    rows: int | None
    """How many rows came, None where that is not known."""


class Observer(Protocol):
    """Watches the statements of a federation. An error that leaves a block has ended what the block watched."""

    def statement(self, sent: Callable[[], str]) -> AbstractContextManager[Observed]:
        """Watch a statement that a session was given; ``sent`` returns its text with placeholders."""

    def step(
        self, service: str, name: str, sent: Callable[[], str], strategy: str = ""
    ) -> AbstractContextManager[Observed]:
        """Watch one step of a statement, at one service; ``sent`` returns what is sent there, called only if needed."""


class _Unseen:
    """What nobody looks at."""

    rows: int | None = None


class Unobserved:
    """The observer of a federation that nobody watches."""

    @contextmanager
    def statement(self, sent: Callable[[], str]) -> Iterator[Observed]:
        """Do nothing."""
        yield _Unseen()

    @contextmanager
    def step(self, service: str, name: str, sent: Callable[[], str], strategy: str = "") -> Iterator[Observed]:
        """Do nothing."""
        yield _Unseen()


UNOBSERVED = Unobserved()
"""What a ``QueryRunner`` starts with."""


WINDOW = 2048
"""How many of the latest times figures are made of."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds by which all times are counted, those that have left the window, too."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the latest statements took, in milliseconds; zero when there were none."""

    avg: float = 0.0
    min: float = 0.0
    max: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many statements took up to each of ``BUCKETS``, and longer; and all their seconds."""

    counts: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class ServiceStatistics:
    """What was sent to one service, whatever for: queries, writes by flush, loads of relationships."""

    service: str
    statements: int
    errors: int
    rows: int
    """Rows that came or were changed; those of streams are not counted."""
    latency: Latency
    """Until the driver had the answer."""
    histogram: Histogram


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """How the statements fared that could be answered from the result cache."""

    hits: int
    """Answered without being sent, those that waited for an equal one among them."""
    misses: int
    hit_rate: float
    """Hits among both, from 0 to 1."""
    entries: int | None
    """How many results are kept; None in Redis, where others keep theirs."""
    bytes: int | None
    evicted: int


@dataclass(frozen=True, slots=True)
class ServiceInDoubt:
    """What a service holds of two-phase commits that have not ended: how many ``branches``, how old in seconds."""

    branches: int
    oldest: float
    """0 where there are none."""


@dataclass(frozen=True, slots=True)
class InDoubtStatistics:
    """Which branches of two-phase commits were prepared and not ended, as of the moment ``at`` and no later.

    That is when ``recover()`` or ``in_doubt()`` was last called in this federation; branches of others are not counted.
    """

    at: datetime
    branches: int
    oldest: float
    services: Mapping[str, ServiceInDoubt | None]
    """Those that can prepare; None for one that could not be asked."""


class RuleFigures(Protocol):
    """How a sync rule does; moments are seconds since 1970."""

    @property
    def name(self) -> str:
        """What the rule is called."""

    @property
    def source(self) -> str:
        """The service and the model that it reads."""

    @property
    def target(self) -> str:
        """The service and the model that it writes."""

    @property
    def strategy(self) -> str:
        """How it hears of changes."""

    @property
    def state(self) -> str:
        """What it is doing."""

    @property
    def synced(self) -> int:
        """Rows written."""

    @property
    def deleted(self) -> int:
        """Rows removed, or marked, as their source was gone."""

    @property
    def errors(self) -> int:
        """Rows, and whole tries, that have failed."""

    @property
    def dead_letters(self) -> int:
        """Rows that could not be synced and are kept."""

    @property
    def lag_seconds(self) -> float | None:
        """How far the target was behind the source when it was last written."""

    @property
    def lag_rows(self) -> int | None:
        """How many rows are known to be behind; None if that is not known."""

    @property
    def last_sync_at(self) -> float | None:
        """When that was."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a federation has done since it was made."""

    statements: int
    """What sessions were given: each ``execute()`` once, however many services it needed."""
    errors: int
    rows: int
    """Of all services."""
    cross_service: int
    """How many statements needed more than one service."""
    cross_service_share: float
    """Those among all, from 0 to 1."""
    latency: Latency
    """Until the session had the result; what comes as a stream comes later."""
    histogram: Histogram
    services: Mapping[str, ServiceStatistics]
    cache: CacheStatistics
    in_doubt: InDoubtStatistics | None = None
    """As of the last ``recover()`` or ``in_doubt()``; None where there was none yet."""


class Recorder:
    """Counts statements and remembers how long the latest took."""

    __slots__ = ("_counts", "_lock", "_seconds", "_window", "errors", "rows")

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._counts = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self.errors = self.rows = 0
        self._lock = Lock()

    def done(self, seconds: float, rows: int = 0) -> None:
        """Count a statement that took ``seconds``."""
        with self._lock:
            self._window.append(seconds)
            self._counts[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds
            self.rows += rows

    def came(self, rows: int) -> None:
        """Count rows of a statement that was counted when it was sent."""
        with self._lock:
            self.rows += rows

    def failed(self, seconds: float) -> None:
        """Count a statement that ended with an error after ``seconds``."""
        with self._lock:
            self.errors += 1
        self.done(seconds)

    @property
    def statements(self) -> int:
        """How many were counted."""
        return sum(self._counts)

    def latency(self) -> Latency:
        """Return the figures of the window; the percentiles are times that were measured (nearest rank)."""
        with self._lock:
            times = sorted(self._window)
        if not times:
            return Latency()

        def percentile(share: float) -> float:
            return times[max(0, ceil(share * len(times)) - 1)] * 1000

        average = fsum(times) / len(times) * 1000
        return Latency(average, times[0] * 1000, times[-1] * 1000, percentile(0.5), percentile(0.95), percentile(0.99))

    def histogram(self) -> Histogram:
        """Return the counts of all times."""
        with self._lock:
            return Histogram(tuple(self._counts), self._seconds)

    def of_service(self, service: str) -> ServiceStatistics:
        """Return all of it, for the service it is of."""
        histogram = self.histogram()
        return ServiceStatistics(service, sum(histogram.counts), self.errors, self.rows, self.latency(), histogram)


class Meter:
    """Measures what the sessions of a federation are given."""

    def __init__(self) -> None:
        self.statements = Recorder()
        self.cross_service = 0
        self.observer: Observer = UNOBSERVED
        self.in_doubt: InDoubtStatistics | None = None
        """What the last look at the services has found."""
        self.rules: Callable[[], Sequence[RuleFigures]] = tuple
        """Returns how the sync rules do, as far as this process knows."""
        self._lock = Lock()

    def crossed(self) -> None:
        """Count a statement that needs more than one service."""
        with self._lock:
            self.cross_service += 1

    def run(self, execute: Callable[[], T], statement: Any) -> T:
        """Run a statement and count it."""
        started = perf_counter()
        try:
            if self.observer is UNOBSERVED:
                result = execute()
            else:
                with self.observer.statement(lambda: str(statement)):
                    result = execute()
        except BaseException:
            self.statements.failed(perf_counter() - started)
            raise
        self.statements.done(perf_counter() - started)
        return result

    def statistics(self, services: Mapping[str, Recorder], cache: CacheStatistics) -> Statistics:
        """Return all figures as of now."""
        by_service = {name: recorder.of_service(name) for name, recorder in services.items()}
        histogram = self.statements.histogram()
        number = sum(histogram.counts)
        return Statistics(
            statements=number,
            errors=self.statements.errors,
            rows=sum(one.rows for one in by_service.values()),
            cross_service=self.cross_service,
            cross_service_share=self.cross_service / number if number else 0.0,
            latency=self.statements.latency(),
            histogram=histogram,
            services=MappingProxyType(by_service),
            cache=cache,
            in_doubt=self.in_doubt,
        )
