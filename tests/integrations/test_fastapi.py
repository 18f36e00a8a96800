"""FastAPI and Starlette: sessions and transactions of requests, health, metrics, and the example under load."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from sqlalchemy import func, select

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")

import httpx2
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.web.models import Loan, Reader
from fedorm import AsyncFederatedSession, Federation, FedormError
from fedorm.integrations.fastapi import (
    Session,
    SyncSession,
    SyncTransaction,
    Transaction,
    in_transaction,
    lifespan,
    router,
)
from fedorm.integrations.starlette import federation_of, routes
from fedorm.testing.rolling_back import rolled_back
from tests.integrations.load import hold_under_load
from tests.integrations.serving import free_port, serving

seen: list[AsyncFederatedSession] = []
TwoPhase = Annotated[AsyncFederatedSession, in_transaction(twophase=True)]


async def earlier(session: Transaction) -> AsyncFederatedSession:
    return session


def made(fed: Federation) -> FastAPI:
    @asynccontextmanager
    async def tables(app: Any) -> AsyncIterator[dict[str, str]]:
        await fed.create_all()
        yield {"own": "state"}

    app = FastAPI(lifespan=lifespan(fed, threads=True, inner=tables))
    app.include_router(router())

    @app.post("/kept/{number}")
    async def kept(
        number: int, session: Transaction, same: Annotated[AsyncFederatedSession, Depends(earlier)]
    ) -> dict[str, bool]:
        seen.append(session)
        session.add_all([Reader(id=number, name="Ada"), Loan(book=f"b{number}", reader_id=number)])
        return {"same": session is same}

    @app.post("/refused/{number}")
    async def refused(number: int, session: Transaction) -> None:
        seen.append(session)
        session.add_all([Reader(id=number, name="Ada"), Loan(book=f"b{number}", reader_id=number)])
        await session.flush()
        raise HTTPException(418)

    @app.post("/uncommitted/{number}")
    async def uncommitted(number: int, session: Session) -> None:
        seen.append(session)
        session.add(Reader(id=number, name="Ada"))
        await session.flush()

    @app.post("/both/{number}")
    async def both(number: int, session: TwoPhase) -> bool:
        session.add(Reader(id=number, name="Ada"))
        return session.sync_session.two_phase

    @app.post("/threads/{number}")
    def threads(number: int, session: SyncTransaction) -> None:
        session.add(Reader(id=number, name="Ada"))

    @app.post("/threads-refused/{number}")
    def threads_refused(number: int, session: SyncTransaction) -> None:
        session.add(Reader(id=number, name="Ada"))
        session.flush()
        raise HTTPException(418)

    @app.get("/threads")
    def read(session: SyncSession) -> list[int]:
        return list(session.scalars(select(Reader.id).order_by(Reader.id)))

    @app.get("/stream")
    async def stream(session: Session) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            async for name in await session.stream_scalars(select(Reader.name)):
                yield f"{name}\n"

        return StreamingResponse(lines())

    @app.get("/own")
    async def own(request: Request) -> str:
        return str(request.state.own)

    @app.websocket("/count")
    async def count(websocket: WebSocket, session: Session) -> None:
        await websocket.accept()
        await websocket.send_json(await session.scalar(select(func.count()).select_from(Reader)))
        await websocket.close()

    return app


@pytest.fixture
def client(small_library: dict[str, str]) -> Iterator[TestClient]:
    seen.clear()
    with TestClient(made(Federation(small_library)), raise_server_exceptions=False) as opened:
        yield opened


def readers(client: TestClient) -> list[int]:
    found: list[int] = client.get("/threads").json()
    return found


def test_a_transaction_is_committed_before_the_response(client: TestClient) -> None:
    """What depends on it shares it; the commit's failure is the request's."""
    assert client.post("/kept/1").json() == {"same": True}
    assert readers(client) == [1]
    assert client.post("/kept/1").status_code == 500
    assert client.post("/kept/2").status_code == 200
    assert readers(client) == [1, 2]
    assert len({id(session) for session in seen}) == 3


@pytest.mark.parametrize(("path", "status"), [("refused", 418), ("uncommitted", 200), ("threads-refused", 418)])
def test_what_is_not_committed_is_undone(client: TestClient, path: str, status: int) -> None:
    """After an exception, and in a session that nobody commits."""
    assert client.post(f"/{path}/1").status_code == status
    assert readers(client) == []
    assert not any(session.in_transaction() for session in seen)


def test_endpoints_that_are_not_async(client: TestClient) -> None:
    """They have sessions of threads."""
    assert client.post("/threads/1").status_code == 200
    assert readers(client) == [1]


def test_options_of_the_session(client: TestClient) -> None:
    """They are those of federation.session()."""
    assert client.post("/both/1").json() is True
    assert readers(client) == [1]


def test_a_streamed_response_reads_from_its_session(client: TestClient) -> None:
    """The session is open until the last line."""
    client.post("/kept/1")
    client.post("/kept/2")
    assert client.get("/stream").text == "Ada\nAda\n"


def test_a_websocket_has_a_session(client: TestClient) -> None:
    """As a request has."""
    client.post("/kept/1")
    with client.websocket_connect("/count") as socket:
        assert socket.receive_json() == 1


def test_a_lifespan_of_your_own(client: TestClient) -> None:
    """It is entered in the open federation, and its state is the request's."""
    assert client.get("/own").json() == "state"


def test_health_and_metrics(client: TestClient) -> None:
    """Every service's state, and the figures of this federation alone."""
    client.post("/kept/1")
    answer = client.get("/health")
    told = answer.json()
    assert (answer.status_code, answer.headers["cache-control"], told["state"]) == (200, "no-store", "up")
    assert {name: one["state"] for name, one in told["services"].items()} == {"readers": "up", "loans": "up"}
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    sent = re.search(r'^fedorm_service_rows_total{service="readers"} (.+)$', metrics.text, re.MULTILINE)
    assert sent is not None
    assert float(sent[1]) == 1
    assert "process_cpu" not in metrics.text
    openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


def test_health_of_a_service_that_is_down(small_library: dict[str, str], tmp_path: Path) -> None:
    """The status is 503; of the error nothing is shown but its class."""
    with TestClient(made(fed := Federation(small_library))) as client:
        assert client.portal is not None
        client.portal.call(fed.stores["loans"].close)
        for file in tmp_path.glob("loans.db*"):
            file.unlink()
        (tmp_path / "loans.db").mkdir()
        answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["state"] == "down"
    assert answer.json()["services"]["loans"] == {"state": "down", "error": "ServiceUnavailableError"}


def test_routes_for_some_alone(small_library: dict[str, str]) -> None:
    """The router keeps to the dependencies that it is included with; an empty path leaves a route out."""

    def refuse() -> None:
        raise HTTPException(403)

    app = FastAPI(lifespan=lifespan(Federation(small_library)))
    app.include_router(router(metrics=""), dependencies=[Depends(refuse)])
    with TestClient(app) as client:
        assert [client.get(path).status_code for path in ("/health", "/metrics")] == [403, 404]


def test_starlette_alone(small_library: dict[str, str]) -> None:
    """An application of Starlette has the lifespan, the routes and the federation."""

    async def names(request: Request) -> JSONResponse:
        fed = federation_of(request)
        await fed.create_all()
        async with fed.session() as session, session.begin():
            session.add(Reader(id=1, name="Ada"))
        async with fed.session() as session:
            return JSONResponse(list(await session.scalars(select(Reader.name))))

    app = Starlette(routes=[Route("/names", names), *routes()], lifespan=lifespan(Federation(small_library)))
    with TestClient(app) as client:
        assert client.get("/names").json() == ["Ada"]
        assert client.get("/health").status_code == 200
        assert client.get("/metrics").status_code == 200


def test_without_its_lifespan(small_library: dict[str, str]) -> None:
    """The error says what to do."""
    client = TestClient(made(Federation(small_library)))
    with pytest.raises(FedormError, match=r"with TestClient\(app\) as client"):
        client.get("/health")


async def test_the_example_under_load(library: dict[str, str], tmp_path: Path) -> None:
    """Fifty clients of a real server, some of whom hang up: no session is shared, no connection is left."""
    pytest.importorskip("uvicorn")
    port = free_port()
    command = ["uvicorn", "tests.integrations.fastapi_watched:app", "--port", str(port), "--log-level", "warning"]
    environment = {"READERS_URL": library["readers"], "LOANS_URL": library["loans"]}
    with serving(command, port, tmp_path / "log", **environment) as url:
        await hold_under_load(url, library)


async def test_a_client_in_the_tests_own_loop(small_library: dict[str, str]) -> None:
    """The application shares the test's federation, and what it commits is undone with the rest."""
    fed = Federation(small_library)
    app = made(fed)
    async with fed:
        await fed.create_all()
        async with rolled_back(fed), app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app=app)
            async with (
                httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
                fed.session() as session,
            ):
                assert list(await session.scalars(select(Reader.id))) == []
                assert (await client.post("/kept/1")).json() == {"same": True}
                assert (await client.post("/refused/2")).status_code == 418
                assert list(await session.scalars(select(Reader.id))) == [1]
        async with fed.session() as session:
            assert list(await session.scalars(select(Reader.id))) == []
