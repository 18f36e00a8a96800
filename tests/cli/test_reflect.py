"""Tables that no model declares: read from their databases, all without models, or the services that are named."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from fedorm import Federation
from tests.cli.conftest import Shell
from tests.cli.test_sql import JOINED


def make_table(shell: Shell) -> None:
    async def make() -> None:
        async with Federation(shell.urls) as federation, federation.session() as session:
            for statement in (
                "create table nicknames (person_id int primary key, nickname varchar(20))",
                "insert into nicknames values (1, 'countess'), (3, null)",
            ):
                await session.execute(text(statement), bind_arguments={"service": "people"})
            await session.commit()

    asyncio.run(make())


def test_without_models(shell: Shell) -> None:
    """Tables and collections of all services are there, as if models declared them."""
    make_table(shell)
    done = shell.process("sql", "--format", "csv", JOINED)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"name,total,price\nAda,7.50,2.5\nAda,12.00,4.0\nBob,1.25,2.5\n"
    query = "select s.id, n.nickname from sales.sales s join people.nicknames n on n.person_id = s.person_id order by 1"
    done = shell.process("sql", "--format", "csv", query)
    assert (done.returncode, done.stdout) == (0, b"id,nickname\n10,countess\n11,countess\n"), done.stderr


def test_beside_models(shell: Shell) -> None:
    """Only the services that are named are read."""
    make_table(shell)
    query = "select nickname from people.nicknames order by person_id"
    done = shell.process("--models", "shop", "sql", "--format", "csv", query)
    assert (done.returncode, b"people.nicknames" in done.stderr) == (1, True)
    done = shell.process("--models", "shop", "--reflect", "people", "sql", "--format", "csv", query)
    assert (done.returncode, done.stdout) == (0, b"nickname\ncountess\n\n"), done.stderr


def test_a_service_that_is_not_there(shell: Shell) -> None:
    """It is a wrong call."""
    refused = shell.refusal("--reflect", "persons", "sql", JOINED, code=2)
    assert refused.startswith("--reflect persons: ")
