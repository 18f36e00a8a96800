"""Flask: the extension's sessions in both kinds of views, its command, and the example under load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

pytest.importorskip("flask")

from flask import Flask, abort

from examples.web.models import Loan, Reader
from fedorm import Federation, FedormError
from fedorm.integrations.flask import Fedorm
from tests.integrations.load import hold_under_load
from tests.integrations.serving import free_port, serving

db = Fedorm()


def made(async_views: bool = True, **config: object) -> Flask:
    app = Flask("library")
    app.config.update(config)
    db.init_app(app, async_views=async_views)

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
