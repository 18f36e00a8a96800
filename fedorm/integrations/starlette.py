"""Starlette: a lifespan that holds a federation open, and routes for its health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fedorm.exc import FedormError
from fedorm.federation import Federation
from fedorm.integrations.reports import UNCACHED, health_report, metrics_page

Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]

_STATE = "fedorm"


def lifespan(federation: Federation, *, threads: bool = False, inner: Callable[[Any], Any] | None = None) -> Lifespan:
    """Return the ``lifespan`` of an application that opens ``federation`` before the first request.

    With ``threads`` it is open for ``sync_session()``, too, which endpoints need that are not async. ``inner`` is a
    lifespan of your own, entered once the federation is open. The application does not start if a service does not
    answer; it raises ``FederationOpenError``.
    """

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(federation)
            if threads:
                await asyncio.to_thread(federation.__enter__)
                stack.push_async_callback(asyncio.to_thread, federation.__exit__, None, None, None)
            state = await stack.enter_async_context(inner(app)) if inner is not None else None
            if hasattr(app, "state"):
                setattr(app.state, _STATE, federation)  # Not every test client hands a lifespan's state on.
            yield {**(state or {}), _STATE: federation}

    return opened


def federation_of(connection: HTTPConnection) -> Federation:
    """Return the federation of the application that handles a request or a WebSocket.

    A session of it: ``async with federation_of(request).session() as session, session.begin(): ...``. Raises
    ``FedormError`` where the application's lifespan was not run.
    """
    application = getattr(connection.scope.get("app"), "state", None)
    federation: Federation | None = getattr(connection.state, _STATE, None) or getattr(application, _STATE, None)
    if federation is None:
        raise FedormError(
            "this application has no open federation: give it  lifespan=lifespan(federation)  of fedorm.integrations, "
            "and in a test enter it:  with TestClient(app) as client"
        )
    return federation


async def answer_health(request: Request) -> Response:
    """Ask every service how it is; the status is 503 when one is down."""
    status, report = health_report(await federation_of(request).health())
    return JSONResponse(report, status, headers=UNCACHED)


async def answer_metrics(request: Request) -> Response:
    """Return this process's figures for Prometheus; no service is asked."""
    federation, accept = federation_of(request), request.headers.get("accept", "")
    page, media_type = await asyncio.to_thread(metrics_page, federation, accept)
    return Response(page, headers={"Content-Type": media_type})


def routes(*, health: str = "/health", metrics: str = "/metrics") -> list[Route]:
    """Return routes that tell of the federation; an empty path leaves one out."""
    answers = [(health, answer_health), (metrics, answer_metrics)]
    return [Route(path, answer, methods=["GET"]) for path, answer in answers if path]
