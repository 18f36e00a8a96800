"""Flask: an extension that gives each request its session, in views with and without ``async``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any

import click
from flask import Blueprint, Flask, Response, current_app, g, jsonify, request
from flask.cli import with_appcontext

from fedorm.async_session import AsyncFederatedSession
from fedorm.bridge import ThreadBridge
from fedorm.exc import FedormError
from fedorm.federation import Federation
from fedorm.integrations.commands import run_command
from fedorm.integrations.in_process import OpenInProcess
from fedorm.integrations.reports import UNCACHED, health_report, metrics_page
from fedorm.session import FederatedSession

_SESSION, _ASYNC_SESSION = "_fedorm_session", "_fedorm_async_session"


class Fedorm:
    """The extension: ``db = Fedorm()``, in the factory ``db.init_app(app, federation)``, in a view ``db.session``.

    Without ``federation`` it is made of the configuration: of the services in ``FEDORM_SERVICES``, or of the file named
    in ``FEDORM_CONFIG``. It is opened by the first request that asks for it, so that a server may fork before, and
    closed with the process, or by ``close()``. With ``async_views`` all async views of the application run on one event
    loop, in a thread, as pooled connections belong to a loop; Flask itself makes one for each request.

    With ``transactions`` each request is one: its sessions are committed when its view has returned, and before the
    response is sent; any exception undoes it. ``session_options`` are those of ``federation.session()``.
    """

    def __init__(
        self,
        app: Flask | None = None,
        federation: Federation | None = None,
        *,
        async_views: bool = False,
        transactions: bool = False,
        session_options: Mapping[str, Any] | None = None,
    ) -> None:
        if app is not None:
            options = {"async_views": async_views, "transactions": transactions}
            self.init_app(app, federation, **options, session_options=session_options)

    def init_app(
        self,
        app: Flask,
        federation: Federation | None = None,
        *,
        async_views: bool = False,
        transactions: bool = False,
        session_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the federation, the sessions' end and the command ``flask fedorm`` to an application."""
        held = _Held(federation or _configured(app), session_options or {})
        app.extensions["fedorm"] = held
        app.teardown_appcontext(_close_sessions)
        app.cli.add_command(_command)
        if async_views:
            app.async_to_sync = held.async_to_sync  # type: ignore[method-assign, assignment]
        if transactions:
            app.dispatch_request = _in_transaction(app, app.dispatch_request)  # type: ignore[method-assign]

    @property
    def federation(self) -> Federation:
        """The federation of the application that is at work, open for threads."""
        return _held().opened()

    @property
    def session(self) -> FederatedSession:
        """The session of the request; made at first use, closed at its end, which undoes what was not committed."""
        if _SESSION not in g:
            setattr(g, _SESSION, self.federation.sync_session(**_held().session_options))
        session: FederatedSession = getattr(g, _SESSION)
        return session

    @property
    def async_session(self) -> AsyncFederatedSession:
        """The same in a view with ``async``; needs ``async_views``."""
        if _ASYNC_SESSION not in g:
            setattr(g, _ASYNC_SESSION, _held().opened_for_tasks().session(**_held().session_options))
        session: AsyncFederatedSession = getattr(g, _ASYNC_SESSION)
        return session

    def close(self, app: Flask) -> None:
        """Close the federation of an application, as a test has to; the next request opens it again."""
        held: _Held = app.extensions["fedorm"]
        held.close()


class _Held(OpenInProcess):
    """An application's federation, and the event loop of its async views."""

    def __init__(self, federation: Federation, session_options: Mapping[str, Any]) -> None:
        super().__init__(federation)
        self.session_options = session_options
        self._views: ThreadBridge | None = None
        """Runs the async views; None as long as there was none."""

    def opened_for_tasks(self) -> Federation:
        if self._views is None:
            raise FedormError("async_session is for async views: write  init_app(app, ..., async_views=True)")
        return self.federation

    def async_to_sync(self, view: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """Return what Flask calls in the place of an async view."""

        @wraps(view)
        def waiting(*arguments: Any, **named: Any) -> Any:
            return self._loop().run(view(*arguments, **named))

        return waiting

    def _loop(self) -> ThreadBridge:
        with self._lock:
            self.opened()
            if self._views is None:
                views = ThreadBridge()
                try:
                    views.run(self.federation.__aenter__())
                except BaseException:
                    views.close()
                    raise
                self._views = views
            return self._views

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        self._loop().run(work)

    def _close(self) -> None:
        views, self._views = self._views, None
        if views is not None:
            views.run(self.federation.__aexit__(None, None, None))
            views.close()
        super()._close()


def _configured(app: Flask) -> Federation:
    if services := app.config.get("FEDORM_SERVICES"):
        return Federation(services)
    if file := app.config.get("FEDORM_CONFIG"):
        return Federation.from_file(file)
    raise FedormError(
        "the application does not say which services it has: give init_app() a federation, or set FEDORM_SERVICES "
        "or FEDORM_CONFIG in its configuration"
    )


def _held() -> _Held:
    held: _Held | None = current_app.extensions.get("fedorm")
    if held is None:
        raise FedormError(f"the application {current_app.name!r} has no federation: call  init_app(app, federation)")
    return held


def _in_transaction(app: Flask, dispatch: Callable[..., Any]) -> Callable[..., Any]:
    """Return what commits a request's sessions when its view has returned, and undoes them when it has raised."""

    @wraps(dispatch)
    def dispatched(*arguments: Any) -> Any:
        try:
            # What a template or a serializer reads is in the transaction; a response that cannot be made undoes it.
            response = app.make_response(dispatch(*arguments))
            if (session := g.get(_SESSION)) is not None:
                session.commit()
            if (in_tasks := g.get(_ASYNC_SESSION)) is not None:
                _held().run(in_tasks.commit())
        except BaseException:
            _close_sessions(None)  # Now: a handler of the error must not see what is undone.
            raise
        return response

    return dispatched


def blueprint(*, health: str = "/health", metrics: str = "/metrics") -> Blueprint:
    """Return a blueprint that tells of the federation; an empty path leaves a route out.

    Register it below a path of its own with ``url_prefix``; its ``before_request`` can keep it to some.
    """
    made = Blueprint("fedorm", __name__)
    for path, answer in ((health, _answer_health), (metrics, _answer_metrics)):
        if path:
            made.add_url_rule(path, view_func=answer)
    return made


def _answer_health() -> tuple[Response, int, dict[str, str]]:
    """Ask every service how it is; the status is 503 when one is down."""
    status, report = health_report(_held().health())
    return jsonify(report), status, UNCACHED


def _answer_metrics() -> Response:
    """Return this process's figures for Prometheus; no service is asked."""
    page, media_type = metrics_page(_held().federation, request.headers.get("accept", ""))
    return Response(page, headers={"Content-Type": media_type})


def _close_sessions(error: BaseException | None) -> None:
    session, in_tasks = g.pop(_SESSION, None), g.pop(_ASYNC_SESSION, None)
    try:
        if session is not None:
            session.close()
    finally:
        if in_tasks is not None:
            _held().run(in_tasks.close())


@click.command(
    "fedorm",
    context_settings={"ignore_unknown_options": True},
    add_help_option=False,
    short_help="Ask the services of the federation, and look after them.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@with_appcontext
def _command(arguments: tuple[str, ...]) -> None:
    run_command(arguments, called="flask fedorm", federation=_held().federation)
