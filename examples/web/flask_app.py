"""The library in Flask: ``flask --app examples.web.flask_app create-tables``, and then ``run`` in its place."""

from __future__ import annotations

from typing import Any

from flask import Flask, abort, request

from examples.web.models import SERVICES, Loan, Reader
from fedorm import federated_load
from fedorm.integrations.flask import Fedorm, blueprint

db = Fedorm()


def create_app() -> Flask:
    """Make the application."""
    app = Flask(__name__)
    app.config["FEDORM_SERVICES"] = SERVICES
    db.init_app(app, async_views=True, transactions=True)
    app.register_blueprint(blueprint())

    @app.cli.command("create-tables")
    def create_tables() -> None:
        """Make the tables; a real application has migrations."""

        async def create() -> None:
            async with db.federation:
                await db.federation.create_all()

        app.async_to_sync(create)()

    @app.post("/readers/<int:number>")
    def enrol(number: int) -> tuple[dict[str, Any], int]:
        """Take in a reader with a first book; a conflict undoes both."""
        name, book = request.args["name"], request.args["book"]
        db.session.add(Reader(id=number, name=name))
        db.session.flush()
        if db.session.get(Loan, book) is not None:
            abort(409)
        db.session.add(Loan(book=book, reader_id=number))
        return {"name": name, "books": [book]}, 201

    @app.get("/readers/<int:number>")
    async def card(number: int) -> dict[str, Any]:
        """Show a reader's card."""
        reader = await db.async_session.get(Reader, number, options=[federated_load(Reader.loans)])
        if reader is None:
            abort(404)
        return {"name": reader.name, "books": [loan.book for loan in reader.loans]}

    return app
