"""A federation's figures as Prometheus metrics, and its statements as OpenTelemetry spans."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from fedorm.exc import MissingDriverError
from fedorm.stats import BUCKETS, UNOBSERVED, WHOLE, Histogram, InDoubtStatistics, Observed, RuleFigures

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from fedorm.observed import ObservedStores

# -- Prometheus


def register(
    federation: ObservedStores,
    registry: CollectorRegistry | None = None,
    *,
    labels: Mapping[str, str] | None = None,
) -> FederationCollector:
    """Add a federation's metrics to ``registry``, by default the process's own, and return what collects them.

    Every metric has ``labels``, which tell several federations of a process apart; ``registry.unregister()`` takes what
    is returned. Raises ``MissingDriverError`` without the package prometheus-client.
    """
    try:
        from prometheus_client import REGISTRY
    except ModuleNotFoundError as error:
        raise MissingDriverError(user="Prometheus", package="prometheus-client", extra="prometheus") from error
    collector = FederationCollector(federation, labels or {})
    (registry or REGISTRY).register(collector)
    return collector


class FederationCollector:
    """Makes metrics of ``fed.stats()`` when they are asked for; between that nothing is kept twice."""

    def __init__(self, federation: ObservedStores, labels: Mapping[str, str]) -> None:
        self._federation = federation
        self._names, self._values = list(labels), list(labels.values())

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as of now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        stats, names, values = self._federation.stats(), self._names, self._values
        whole = {
            "fedorm_statements": ("Statements that sessions were given.", stats.statements),
            "fedorm_statement_errors": ("Statements that ended with an error.", stats.errors),
            "fedorm_cross_service_statements": ("Statements that needed several services.", stats.cross_service),
            "fedorm_cache_hits": ("Statements answered from the result cache.", stats.cache.hits),
            "fedorm_cache_misses": ("Statements not found in the result cache.", stats.cache.misses),
            "fedorm_cache_evictions": ("Results that had to go for others.", stats.cache.evicted),
        }
        for name, (told, number) in whole.items():
            counter = CounterMetricFamily(name, told, labels=names)
            counter.add_metric(values, number)
            yield counter
        for name, told, size in (
            ("fedorm_cache_entries", "Results that are kept in memory.", stats.cache.entries),
            ("fedorm_cache_bytes", "About how many bytes they take.", stats.cache.bytes),
        ):
            if size is not None:
                gauge = GaugeMetricFamily(name, told, labels=names)
                gauge.add_metric(values, size)
                yield gauge
        times = HistogramMetricFamily("fedorm_statement_seconds", "Time until a session had the result.", labels=names)
        times.add_metric(values, _buckets(stats.histogram), stats.histogram.seconds)
        yield times
        of_service = [*names, "service"]
        sent = CounterMetricFamily("fedorm_service_statements", "Statements sent to a service.", labels=of_service)
        errors = CounterMetricFamily("fedorm_service_errors", "Errors of a service.", labels=of_service)
        rows = CounterMetricFamily("fedorm_service_rows", "Rows that came or were changed.", labels=of_service)
        answers = HistogramMetricFamily("fedorm_service_seconds", "Time until a service's answer.", labels=of_service)
        for name, service in stats.services.items():
            sent.add_metric([*values, name], service.statements)
            errors.add_metric([*values, name], service.errors)
            rows.add_metric([*values, name], service.rows)
            answers.add_metric([*values, name], _buckets(service.histogram), service.histogram.seconds)
        yield from (sent, errors, rows, answers)
        if stats.in_doubt is not None:
            yield from self._in_doubt(stats.in_doubt)
        yield from self._rules(self._federation.meter.rules())

    def _in_doubt(self, found: InDoubtStatistics) -> Iterable[Metric]:
        """Return what the last look at the services has found, and when that was: the scrape itself asks nobody."""
        from prometheus_client.core import GaugeMetricFamily

        names, values = self._names, self._values
        looked = GaugeMetricFamily("fedorm_in_doubt_timestamp_seconds", "When the services were asked.", labels=names)
        looked.add_metric(values, found.at.timestamp())
        told = "Branches of two-phase commits that were prepared and not ended."
        branches = GaugeMetricFamily("fedorm_in_doubt_branches", told, labels=[*names, "service"])
        oldest = GaugeMetricFamily(
            "fedorm_in_doubt_oldest_seconds", "For how long the oldest of them was.", labels=[*names, "service"]
        )
        for name, service in found.services.items():
            if service is not None:
                branches.add_metric([*values, name], service.branches)
                oldest.add_metric([*values, name], service.oldest)
        yield from (looked, branches, oldest)

    def _rules(self, found: Iterable[RuleFigures]) -> Iterable[Metric]:
        """Return how the sync rules do, as far as this process knows: those that it carries out, or has asked about."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        names = [*self._names, "rule", "source", "target", "strategy"]
        synced = CounterMetricFamily("fedorm_sync_synced", "Rows that rules have written.", labels=names)
        deleted = CounterMetricFamily("fedorm_sync_deleted", "Rows that they have removed or marked.", labels=names)
        errors = CounterMetricFamily("fedorm_sync_errors", "Rows and tries that have failed.", labels=names)
        letters = GaugeMetricFamily("fedorm_sync_dead_letters", "Rows that could not be synced.", labels=names)
        lag = GaugeMetricFamily(
            "fedorm_sync_lag_seconds", "How old a change was when it was last written.", labels=names
        )
        behind = GaugeMetricFamily(
            "fedorm_sync_lag_rows", "Rows that were read, or are to be, and not written yet.", labels=names
        )
        last = GaugeMetricFamily("fedorm_sync_last_sync_timestamp_seconds", "When that was.", labels=names)
        state = GaugeMetricFamily("fedorm_sync_state", "1 with what a rule is doing.", labels=[*names, "state"])
        for one in found:
            values = [*self._values, one.name, one.source, one.target, one.strategy]
            state.add_metric([*values, one.state], 1)
            synced.add_metric(values, one.synced)
            deleted.add_metric(values, one.deleted)
            errors.add_metric(values, one.errors)
            letters.add_metric(values, one.dead_letters)
            if one.lag_seconds is not None:
                lag.add_metric(values, one.lag_seconds)
            if one.lag_rows is not None:
                behind.add_metric(values, one.lag_rows)
            if one.last_sync_at is not None:
                last.add_metric(values, one.last_sync_at)
        yield from (state, synced, deleted, errors, letters, lag, behind, last)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return upper bounds and how many took no longer, as Prometheus counts."""
    names = [*map(str, BUCKETS), "+Inf"]
    return list(zip(names, map(float, accumulate(histogram.counts)), strict=True))


# -- OpenTelemetry

_in_step: ContextVar[bool] = ContextVar("fedorm_in_step", default=False)
_statement: ContextVar[Any] = ContextVar("fedorm_statement", default=None)
"""OpenTelemetry's context of the statement that runs: steps are its children, also those that overlap."""


def trace(federation: ObservedStores, provider: TracerProvider | None = None) -> None:
    """Make a span of every statement of a federation, and one below it of each of its steps.

    Without this it is done when the federation is opened in a process that has set a tracer provider before. Raises
    ``MissingDriverError`` without the package opentelemetry-api.
    """
    try:
        import opentelemetry.trace  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDriverError(user="tracing", package="opentelemetry-api", extra="opentelemetry") from error
    federation.observe(Tracing(provider))


def trace_if_set(federation: ObservedStores) -> None:
    """Trace a federation if the process has set a tracer provider; costs nothing where none was imported."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is not None and isinstance(api.get_tracer_provider(), api.ProxyTracerProvider | api.NoOpTracerProvider):
        return
    if api is not None and federation.meter.observer is UNOBSERVED:
        trace(federation)


class _Seen:
    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: int | None = None


class Tracing:
    """The observer that makes spans; of values nothing gets into them, whether parameters or written in the text."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        from opentelemetry import context, trace

        self._current = context.get_current
        self._tracer = trace.get_tracer("fedorm", tracer_provider=provider)
        self._client, self._internal = trace.SpanKind.CLIENT, trace.SpanKind.INTERNAL

    @contextmanager
    def statement(self, sent: Callable[[], str]) -> Iterator[Observed]:
        """Make the span of a statement."""
        with self._span("fedorm.statement", self._internal, {}, sent) as seen, _set(_statement, self._current()):
            yield seen

    @contextmanager
    def step(self, service: str, name: str, sent: Callable[[], str], strategy: str = "") -> Iterator[Observed]:
        """Make the span of a step; what a step sends to its service is a part of it."""
        if name == WHOLE and _in_step.get():
            yield _Seen()
            return
        told = {"fedorm.service": service, "fedorm.step": name}
        if strategy:
            told["fedorm.strategy"] = without_values(strategy)
        parent = _statement.get()
        with self._span(f"fedorm.step {service}", self._client, told, sent, parent) as seen, _set(_in_step, True):
            yield seen

    @contextmanager
    def _span(
        self, name: str, kind: Any, told: dict[str, str], sent: Callable[[], str], parent: Any = None
    ) -> Iterator[Observed]:
        seen = _Seen()
        # Not the error's own text, which may repeat values.
        with self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=kind,
            attributes=told,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            if span.is_recording():
                span.set_attribute("db.query.text", _text(sent))
            try:
                yield seen
            except BaseException as error:
                _fail(span, error)
                raise
            finally:
                if seen.rows is not None:
                    span.set_attribute("db.response.returned_rows", seen.rows)


@contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        with suppress(ValueError):  # A stream may be closed elsewhere than it was opened.
            variable.reset(token)


def _fail(span: Span, error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode

    kind = type(error)
    span.set_attribute("error.type", f"{kind.__module__}.{kind.__qualname__}")
    span.set_status(Status(StatusCode.ERROR, kind.__qualname__))


def _text(sent: Callable[[], str]) -> str:
    try:
        return without_values(sent())
    except Exception as error:  # A statement that only its own dialect can write down.
        return f"({type(error).__name__})"


_VALUES = re.compile(
    r"""
    "(?:[^"]|"")*" | `(?:[^`]|``)*`              # names, which stay
    | (?P<text>'(?:[^']|'')*')                   # texts
    | [A-Za-z_@:$%][\w@:$.]*                      # words, and the signs of parameters
    | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)
    """,
    re.VERBOSE,
)
_UNSURE = re.compile(r"\\|\$\w*\$|--|/\*|\#")
"""What may make a text end elsewhere than at the next quote."""
_FIRST_TEXT = re.compile(r"'|\$\w*\$")


@lru_cache(maxsize=1000)
def without_values(sql: str) -> str:
    """Return SQL with a question mark in the place of each value written into it.

    Where comments or escapes leave it open where a text ends, nothing after the first quote is shown.
    """
    first = _FIRST_TEXT.search(sql)
    if first is not None and _UNSURE.search(sql):
        return without_values(sql[: first.start()].split("/*")[0].split("--")[0]) + "?..."
    return _VALUES.sub(lambda found: "?" if found["text"] or found["number"] else found[0], sql)
