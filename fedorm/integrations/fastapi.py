"""FastAPI: dependencies that give a request its session, or its transaction, and a router for health and metrics.

``lifespan`` is Starlette's: ``app = FastAPI(lifespan=lifespan(federation))``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import HTTPConnection

from fedorm.async_session import AsyncFederatedSession
from fedorm.integrations.starlette import answer_health, answer_metrics, federation_of, lifespan
from fedorm.session import FederatedSession

__all__ = [
    "lifespan",
    "federation_of",
    "Session",
    "Transaction",
    "SyncSession",
    "SyncTransaction",
    "in_session",
    "in_transaction",
    "in_sync_session",
    "in_sync_transaction",
    "router",
]


def in_session(**options: Any) -> Any:
    """Return the dependency on a session of the request's own; ``options`` are those of ``federation.session()``.

    It is closed when the response has been sent, so that a streamed one can read from it; nothing is committed but by
    the endpoint. All that depend on the same one in a request share it.
    """

    async def session(connection: HTTPConnection) -> AsyncIterator[AsyncFederatedSession]:
        async with federation_of(connection).session(**options) as opened:
            yield opened

    return Depends(session)


def in_transaction(**options: Any) -> Any:
    """Return the dependency on a session that is committed before the response is sent.

    So a commit that fails is an error of this request. An exception of the endpoint, ``HTTPException`` as any other,
    rolls back; a response that it returns, of whatever status, commits. For a streamed response the session is closed
    before the stream begins.
    """

    async def transaction(connection: HTTPConnection) -> AsyncIterator[AsyncFederatedSession]:
        async with federation_of(connection).session(**options) as opened:
            yield opened
            await opened.commit()

    return Depends(transaction, scope="function")


def in_sync_session(**options: Any) -> Any:
    """Do the same as ``in_session()`` for endpoints that are not async; needs ``lifespan(..., threads=True)``."""

    def session(connection: HTTPConnection) -> Iterator[FederatedSession]:
        with federation_of(connection).sync_session(**options) as opened:
            yield opened

    return Depends(session)


def in_sync_transaction(**options: Any) -> Any:
    """Do the same as ``in_transaction()`` for endpoints that are not async; needs ``lifespan(..., threads=True)``."""

    def transaction(connection: HTTPConnection) -> Iterator[FederatedSession]:
        with federation_of(connection).sync_session(**options) as opened:
            yield opened
            opened.commit()

    return Depends(transaction, scope="function")


Session = Annotated[AsyncFederatedSession, in_session()]
"""A session of the request's own."""
Transaction = Annotated[AsyncFederatedSession, in_transaction()]
"""A session of the request's own, committed when the endpoint has returned, rolled back when it has raised."""
SyncSession = Annotated[FederatedSession, in_sync_session()]
"""What ``Session`` is, for endpoints that are not async."""
SyncTransaction = Annotated[FederatedSession, in_sync_transaction()]
"""What ``Transaction`` is, for endpoints that are not async."""


def router(*, health: str = "/health", metrics: str = "/metrics") -> APIRouter:
    """Return a router that tells of the federation; an empty path leaves a route out.

    Include it with dependencies, ``app.include_router(router(), dependencies=[...])``, where not all may see it.
    """
    made = APIRouter(tags=["fedorm"])
    for path, answer in ((health, answer_health), (metrics, answer_metrics)):
        if path:
            made.add_api_route(path, answer, methods=["GET"], response_model=None)
    return made
