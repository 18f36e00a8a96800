"""Applications that notice when two requests share a session, and say how many connections are in use."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import ContextVar
from itertools import count
from typing import Any

from sqlalchemy import event

from fedorm import FederatedSession, Federation
from fedorm.stores.sql import SQLStore

_request: ContextVar[int] = ContextVar("request")
_numbers = count(1)
sessions: set[int] = set()
"""The requests that have used a session."""
shared: list[tuple[int, int]] = []
"""Pairs of requests that have used the same one."""


@event.listens_for(FederatedSession, "after_begin")
def _belongs_to_one_request(session: FederatedSession, transaction: Any, connection: Any) -> None:
    request = _request.get(0)
    if not request:
        return
    sessions.add(request)
    if (first := session.info.setdefault("request", request)) != request:
        shared.append((first, request))


def report(fed: Federation) -> bytes:
    """Return what was seen, and how many connections are in use, as JSON."""
    engines = [
        engine
        for store in fed.stores.values()
        if isinstance(store, SQLStore)
        for engine in (store._engine, store._sync_engine)
        if engine is not None
    ]
    in_use = sum(engine.pool.checkedout() for engine in engines)  # type: ignore[attr-defined]
    return json.dumps({"sessions": len(sessions), "shared": shared, "in_use": in_use}).encode()


Scope = MutableMapping[str, Any]


def watched_asgi(app: Callable[..., Awaitable[None]], fed: Federation) -> Callable[..., Awaitable[None]]:
    async def outer(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/watched":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": report(fed)})
            return
        _request.set(next(_numbers))
        await app(scope, receive, send)

    return outer


def watched_wsgi(app: Any, fed: Federation) -> Callable[[Any, Any], Iterable[bytes]]:
    def outer(environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/watched":
            start_response("200 OK", [])
            return [report(fed)]
        _request.set(next(_numbers))
        answer: Iterable[bytes] = app(environ, start_response)
        return answer

    return outer
