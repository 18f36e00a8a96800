"""Flask: the extension's sessions in both kinds of views, its command, and the example under load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

pytest.importorskip("flask")
pytest.importorskip("httpx2")

import httpx2
from flask import Flask, abort

from examples.web.models import Loan, Reader
from fedorm import Federation, FedormError
from fedorm.integrations.flask import Fedorm, blueprint
from tests.integrations.load import hold_under_load
from tests.integrations.serving import free_port, serving

db = Fedorm()


def made(async_views: bool = True, **config: object) -> Flask:
    app = Flask("library")
    app.config.update(config)
    db.init_app(app, async_views=async_views)
    app.register_blueprint(blueprint())

    @app.post("/kept/<int:number>")
    def kept(number: int) -> list[bool]:
        session = db.session
        session.add_all([Reader(id=number, name="Ada"), Loan(book=f"b{number}", reader_id=number)])
        session.commit()
        return [session is db.session]

    @app.post("/uncommitted/<int:number>")
    def uncommitted(number: int) -> list[int]:
        db.session.add(Reader(id=number, name="Ada"))
        db.session.flush()
        if number == 2:
            abort(409)
        return []

    @app.post("/async/<int:number>")
    async def in_tasks(number: int) -> list[bool]:
        session = db.async_session
        session.add(Reader(id=number, name="Ada"))
        await session.commit()
        return [session is db.async_session]

    @app.post("/async-uncommitted/<int:number>")
    async def in_tasks_uncommitted(number: int) -> list[int]:
        db.async_session.add(Reader(id=number, name="Ada"))
        await db.async_session.flush()
        if number == 2:
            abort(409)
        return []

    @app.get("/readers")
    def readers() -> list[int]:
        return list(db.session.scalars(select(Reader.id).order_by(Reader.id)))

    return app


@pytest.fixture
async def tables(small_library: dict[str, str]) -> dict[str, str]:
    async with Federation(small_library) as fed:
        await fed.create_all()
    return small_library


@pytest.fixture
def app(tables: dict[str, str]) -> Iterator[Flask]:
    app = made(FEDORM_SERVICES=tables)
    yield app
    db.close(app)


def test_a_session_a_request(app: Flask) -> None:
    """It is the same in the whole request; in async views, too, one request after the other."""
    client = app.test_client()
    assert [client.post(f"/{kind}/{number}").json for number, kind in enumerate(["kept", "async"] * 3)] == [[True]] * 6
    assert client.get("/readers").json == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("path", ["uncommitted", "async-uncommitted"])
def test_what_is_not_committed_is_undone(app: Flask, path: str) -> None:
    """At the end of the request, and after an error; every connection is back."""
    client = app.test_client()
    assert [client.post(f"/{path}/{number}").status_code for number in (1, 2)] == [200, 409]
    assert client.get("/readers").json == []
    stores = app.extensions["fedorm"].federation.stores.values()
    engines = [engine for store in stores for engine in (store._engine, store._sync_engine) if engine is not None]
    assert [engine.pool.checkedout() for engine in engines] == [0] * len(engines)


def test_outside_of_a_request(app: Flask) -> None:
    """An application context has a session of its own, as in a script."""
    with app.app_context():
        db.session.add(Reader(id=1, name="Ada"))
        db.session.commit()
        first = db.session
    with app.app_context():
        assert db.session is not first
        assert db.session.scalars(select(Reader.name)).all() == ["Ada"]


def test_several_applications(tables: dict[str, str], tmp_path: Path) -> None:
    """One extension serves many, each with a federation of its own, made of a file, too."""
    file = tmp_path / "fedorm.toml"
    file.write_text("".join(f'[services.{name}]\nurl = "{url}"\n' for name, url in tables.items()))
    first, second = made(FEDORM_CONFIG=str(file)), made(FEDORM_SERVICES=tables)
    try:
        assert first.test_client().post("/kept/1").status_code == 200
        assert second.test_client().get("/readers").json == [1]
        assert first.extensions["fedorm"].federation is not second.extensions["fedorm"].federation
    finally:
        db.close(first)
        db.close(second)


def test_what_is_not_set_up(tables: dict[str, str]) -> None:
    """The error says what to do."""
    with pytest.raises(FedormError, match="set FEDORM_SERVICES"):
        made()
    with Flask("none").app_context(), pytest.raises(FedormError, match=r"call  init_app\(app, federation\)"):
        _ = db.session
    app = made(async_views=False, FEDORM_SERVICES=tables)
    with app.app_context(), pytest.raises(FedormError, match="async_views=True"):
        _ = db.async_session


def test_the_command(app: Flask) -> None:
    """It works over the application's services, without a file, and ends as fedorm does."""
    app.test_client().post("/kept/1")
    runner = app.test_cli_runner()
    found = runner.invoke(args=["fedorm", "sql", "--format", "json", "select id, name from readers.readers"])
    assert (found.exit_code, json.loads(found.output)) == (0, [{"id": 1, "name": "Ada"}])
    assert runner.invoke(args=["fedorm", "sql", "select nothing from readers.readers"]).exit_code == 1
    assert "Usage: flask fedorm sql" in runner.invoke(args=["fedorm", "sql", "--help"]).output
    assert "Ask the services of the federation" in runner.invoke(args=["--help"]).output


@pytest.fixture
def committing(tables: dict[str, str]) -> Iterator[Flask]:
    """An application in which each request is a transaction over both services."""
    app = Flask("committing")
    db.init_app(
        app, Federation(tables), async_views=True, transactions=True, session_options={"info": {"of": "requests"}}
    )

    @app.post("/sync/<int:number>/<ending>")
    def in_threads(number: int, ending: str) -> Any:
        db.session.add_all([Reader(id=number, name="Ada"), Loan(book=f"b{number}", reader_id=number)])
        return ended(ending)

    @app.post("/async/<int:number>/<ending>")
    async def in_tasks(number: int, ending: str) -> Any:
        db.async_session.add_all([Reader(id=number, name="Ada"), Loan(book=f"b{number}", reader_id=number)])
        await db.async_session.flush()
        return ended(ending)

    @app.get("/readers")
    def readers() -> list[int]:
        assert db.session.info["of"] == "requests"
        return [*db.session.scalars(select(Reader.id)), *db.session.scalars(select(Loan.reader_id))]

    @app.errorhandler(418)
    def refused(error: Exception) -> tuple[list[int], int]:
        return readers(), 418  # In a session anew: what has failed is undone by now.

    yield app
    db.close(app)


def ended(ending: str) -> Any:
    if ending == "refused":
        abort(418)
    if ending == "broken":
        raise RuntimeError("broken")
    return object() if ending == "unanswerable" else ("", int(ending))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_transaction_a_request(committing: Flask, kind: str) -> None:
    """A response of any status commits before it is sent; an exception undoes all, and a commit's failure is one."""
    client = committing.test_client()
    answers = [
        client.post(f"/{kind}/{number}/{ending}")
        for number, ending in enumerate(["200", "refused", "409", "broken", "unanswerable"], 1)
    ]
    assert [answer.status_code for answer in answers] == [200, 418, 409, 500, 500]
    assert answers[1].json == [1, 1]
    assert client.get("/readers").json == [1, 3, 1, 3]
    assert client.post(f"/{kind}/3/200").status_code == 500
    assert client.get("/readers").json == [1, 3, 1, 3]
    stores = committing.extensions["fedorm"].federation.stores.values()
    engines = [engine for store in stores for engine in (store._engine, store._sync_engine) if engine is not None]
    assert [engine.pool.checkedout() for engine in engines] == [0] * len(engines)


def test_health_and_metrics(app: Flask, tmp_path: Path) -> None:
    """Every service's state, and the figures of this federation alone; 503 with a service down, also at the start."""
    client = app.test_client()
    client.post("/kept/1")
    answer = client.get("/health")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert {name: one["state"] for name, one in answer.json["services"].items()} == {"readers": "up", "loans": "up"}
    metrics = client.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain")
    assert 'fedorm_service_rows_total{service="readers"} 1.0' in metrics.text
    assert client.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text.endswith("# EOF\n")
    down = {"state": "down", "error": "ServiceUnavailableError"}
    for stop in (app.extensions["fedorm"].federation.stores["loans"].close_sync, lambda _: db.close(app)):
        stop(None)
        for file in tmp_path.glob("loans.db*"):
            file.rmdir() if file.is_dir() else file.unlink()
        (tmp_path / "loans.db").mkdir()
        answer = client.get("/health")
        assert (answer.status_code, answer.json["state"], answer.json["services"]["loans"]) == (503, "down", down)
        assert answer.json["services"]["readers"]["state"] == "up"


def test_routes_at_places_of_their_own(tables: dict[str, str]) -> None:
    """Under a prefix, with a path that is left out."""
    app = Flask("private")
    db.init_app(app, Federation(tables))
    app.register_blueprint(blueprint(health="/up", metrics=""), url_prefix="/internal")
    client = app.test_client()
    assert [client.get(path).status_code for path in ("/internal/up", "/internal/metrics", "/up")] == [200, 404, 404]
    db.close(app)


async def test_the_example_under_load(library: dict[str, str], tmp_path: Path) -> None:
    """Fifty clients of gunicorn's threads, some of whom hang up: no session is shared, no connection is left."""
    pytest.importorskip("gunicorn")
    async with Federation(library) as fed:
        await fed.create_all()
    port = free_port()
    command = ["gunicorn", "tests.integrations.flask_watched:app", "--bind", f"127.0.0.1:{port}", "--threads", "16"]
    environment = {"READERS_URL": library["readers"], "LOANS_URL": library["loans"]}
    with serving([*command, "--log-level", "warning"], port, tmp_path / "log", **environment) as url:
        await hold_under_load(url, library)
        async with httpx2.AsyncClient(base_url=url) as client:
            assert (await client.get("/health")).json()["state"] == "up"
