"""Runs the steps of a plan wave by wave, on the session's own connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import CursorResult, types

from fedorm.query.explain import sent
from fedorm.query.measured import Measured
from fedorm.query.plan import KeyFilter, Piece, Plan, Scan, Step
from fedorm.query.reading import Keys, Reader, Rows
from fedorm.query.small import MOST_ROWS
from fedorm.stats import UNOBSERVED, Observed, Observer
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession


class Parts:
    """The rows of a service's own answer, a part at a time."""

    def __init__(
        self,
        result: CursorResult[Any],
        made: Callable[[Sequence[Any]], list[tuple[Any, ...]]],
        named: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._result, self._made, self._named = result, made, named

    def batch(self) -> list[tuple[Any, ...]]:
        """Return the next rows, none at the end."""
        with self._named():
            return self._made(self._result.fetchmany(_PART))

    def close(self) -> None:
        """Read no more."""
        self._result.close()


_PART = 10_000


class Execution:
    """One plan with the values of its parameters, for one session."""

    def __init__(
        self,
        session: FederatedSession,
        plan: Plan,
        parameters: Mapping[str, Any],
        observer: Observer = UNOBSERVED,
        may_read_outside: Callable[[str], bool] = lambda service: False,
    ) -> None:
        self.session, self._plan = session, plan
        self._reader = Reader(session, plan, parameters, may_read_outside)
        self.observer, self._may_read_outside = observer, may_read_outside
        self.found: dict[str, Rows] = {}
        """What each step has returned; steps that the finish reads by itself are not among them."""
        self.outside = [step for step in plan.steps if isinstance(step, Scan) and step.outside]
        """What the finish reads by itself."""
        self._distinct: dict[tuple[str, str], list[Any]] = {}
        self.analyzes = False
        """Whether ``measured()`` will be asked for, which costs a little."""
        self._earlier: dict[str, tuple[int, int]] = {}
        """Rows and bytes of the parts before the last one."""
        self.took: dict[str, float] = {}
        """Milliseconds, by step."""

    def read(self) -> Mapping[str, Rows]:
        """Run the steps, those of a wave at the same time, and return what each has found, by its name."""
        session = self.session
        for wave in self._plan.waves:
            by_service: dict[str, list[Step]] = {}
            for step in wave:
                if step.name not in self.found and not self._is_outside(step):
                    by_service.setdefault(step.service, []).append(step)
            if not by_service:
                continue
            if len(by_service) > 1:
                for service in by_service:
                    if isinstance(session.stores[service], SQLStore):
                        # Now, one after the other: a session refuses to connect two services at the same moment.
                        session.connection(bind_arguments={"service": service})
            jobs = [self._job(steps) for steps in by_service.values()]
            for found in session.bridge.side_by_side(jobs):
                self.found.update(found)
        return self.found

    def _is_outside(self, step: Step) -> bool:
        """Say whether the finish reads a step, as planned, or as there turned out to be too many keys for it."""
        if not isinstance(step, Scan) or step.outside or step.most_keys is None:
            return isinstance(step, Scan) and step.outside
        keys = [self._values(key) for key in step.key_filters]
        few = min((len(values) for values in keys if values is not None), default=step.most_keys + 1)
        if few <= step.most_keys or not self._may_read_outside(step.service):
            return False
        self.outside.append(step)
        return True

    # -- a part at a time

    @contextmanager
    def stream(self, name: str) -> Iterator[Callable[[int], Sequence[Any]]]:
        """Open a step's rows as a stream; what it yields returns the next ones."""
        (step,) = (one for one in self._plan.steps if one.name == name)
        assert isinstance(step, Scan)
        with self._watched(step) as seen, ExitStack() as opened:
            with self._named(step):
                fetch = opened.enter_context(self._reader.stream(step))
            started, seen.rows = time.perf_counter(), 0

            def next_rows(size: int) -> Sequence[Any]:
                with self._named(step):
                    rows = fetch(size)
                seen.rows = (seen.rows or 0) + len(rows)
                self.took[name] = (time.perf_counter() - started) * 1000
                return rows

            yield next_rows

    def forget(self, name: str, rows: Sequence[Any]) -> None:
        """Let ``rows`` be what a step has found, and forget what other steps have found by its keys."""
        self._put_away(name)
        self.found[name] = self._reader.rows_of(name, rows)
        stale = {name}
        for step in self._plan.steps:
            if any(key.source in stale for key in step.key_filters):
                stale.add(step.name)
                self._put_away(step.name)
        self._distinct.clear()

    def _put_away(self, name: str) -> None:
        rows = self.found.pop(name, None)
        if rows is not None and self.analyzes:
            number, size = self._earlier.get(name, (0, 0))
            self._earlier[name] = number + len(rows.rows), size + rows.arrow().nbytes

    def has_few(self) -> bool:
        """Say whether so few rows were found that Python joins them sooner than DuckDB."""
        return not self.outside and sum(len(rows.rows) for rows in self.found.values()) <= MOST_ROWS

    def tables(self) -> dict[str, pa.Table]:
        """Return what the steps have found as Arrow tables."""
        return {name: rows.arrow() for name, rows in self.found.items()}

    def parts(self) -> Parts | None:
        """Run the only step of a plan without a finish, whose rows come while they are read.

        None where its connection would answer nothing else meanwhile.
        """
        (step,) = self._plan.steps
        store = self.session.stores[step.service]
        if not isinstance(step, Piece) or not isinstance(store, SQLStore) or not store.answers_while_streaming:
            return None
        with self._watched(step), self._named(step):
            result = self._reader.stream_of(step)
        return Parts(result, self._with_integers(step), lambda: self._named(step))

    def result(self) -> list[tuple[Any, ...]]:
        """Run the only step of a plan without a finish and return its rows."""
        (step,) = self._plan.steps
        assert isinstance(step, Piece)
        found = self.found[step.name] = self._timed(step)
        return self._with_integers(step)(found.rows)

    @staticmethod
    def _with_integers(step: Piece) -> Callable[[Sequence[Any]], list[tuple[Any, ...]]]:
        """Return what makes rows of tuples in which sums of integers are integers."""
        whole = [number for number, kind in enumerate(step.kinds) if isinstance(kind, types.Integer)]
        if not whole or not step.sums:
            return lambda rows: [tuple(row) for row in rows]
        return lambda rows: [_with_integers(tuple(row), whole) for row in rows]

    def measured(self) -> dict[str, Measured]:
        """Return how it went, by step."""
        measured = {}
        for name, rows in self.found.items():
            number, size = self._earlier.get(name, (0, 0))
            measured[name] = Measured(number + len(rows.rows), size + rows.arrow().nbytes, self.took[name])
        return measured

    def _job(self, steps: Sequence[Step]) -> Callable[[], dict[str, Rows]]:
        return lambda: {step.name: self._timed(step) for step in steps}

    def _timed(self, step: Step) -> Rows:
        started = time.perf_counter()
        with self._watched(step) as seen:
            with self._named(step):
                most = self.session.stores[step.service].most_keys
                rows = self._reader.read(step, [self._keys(one, most) for one in step.key_filters])
            seen.rows = len(rows.rows)
        self.took[step.name] = self.took.get(step.name, 0.0) + (time.perf_counter() - started) * 1000
        return rows

    @contextmanager
    def _named(self, step: Step) -> Iterator[None]:
        """Say of an error which step, service and statement it comes from."""
        try:
            yield
        except Exception as error:
            store = self.session.stores[step.service]
            error.add_note(f"step {step.name} of a federated select, at service {step.service!r}: {sent(step, store)}")
            raise

    def _watched(self, step: Step) -> AbstractContextManager[Observed]:
        store = self.session.store_named(step.service)
        return self.observer.step(step.service, step.name, lambda: sent(step, store), step.why)

    def _values(self, key: KeyFilter) -> list[Any] | None:
        """Return the different keys that another step has found; None when the finish reads that one."""
        if key.source not in self.found:
            return None
        place = key.source, key.source_column
        if place not in self._distinct:
            self._distinct[place] = self.found[key.source].distinct(key.source_column)
        return self._distinct[place]

    def _keys(self, filter_: KeyFilter, most: int) -> Keys:
        values = self._values(filter_)
        if values is None:
            return Keys(filter_.column)
        if len(values) <= most:
            return Keys(filter_.column, values)
        if isinstance(values[0], str | bytes):  # Databases order these in their own ways.
            return Keys(filter_.column)
        return Keys(filter_.column, ends=(min(values), max(values)))


def _with_integers(row: tuple[Any, ...], columns: Sequence[int]) -> tuple[Any, ...]:
    """Return a row in which sums of integers are integers, which PostgreSQL makes decimals of."""
    values = list(row)
    for number in columns:
        values[number] = None if values[number] is None else int(values[number])
    return tuple(values)
