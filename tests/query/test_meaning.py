"""What an expression means is what it means in PostgreSQL, wherever its values are."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, insert, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from fedorm import Federation, UnknownFunctionError, UnsupportedQueryError
from tests.query.expressions import FORMS, expressions
from tests.query.meaning_tables import LEFT, RIGHT, WHOLE, WHOLE_LEFT, WHOLE_RIGHT, left_rows, right_rows

EXAMPLES = int(os.environ.get("FEDORM_EXAMPLES", "150"))
TOPICS = sorted(path.stem for path in (Path(__file__).parent / "meaning").glob("*.sql"))
FROM = " FROM meaning_left.a x JOIN meaning_right.b y ON x.k = y.k"


@dataclass(frozen=True)
class Places:
    """One PostgreSQL database with both tables, and the URLs of databases with one table each."""

    whole: Engine
    left: dict[str, str]
    right: dict[str, str]


@pytest.fixture(scope="module")
def places(fedorm_servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Fill the databases once; each test opens a federation of its own over them."""
    server, other = fedorm_servers.place("postgresql"), fedorm_servers.place("mysql")
    name = f"t_{secrets.token_hex(5)}"
    languages = {
        f"{name}_whole": "LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' TEMPLATE template0",
        f"{name}_code": "LC_COLLATE 'C' TEMPLATE template0",
        f"{name}_words": "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0",
    }
    server.admin.create(name)
    other.admin.create(name)
    admin = create_engine(_sync(server.url(name)), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for database, how in languages.items():
            connection.execute(text(f"CREATE DATABASE {database} {how}"))
        # A zone of its own, as well: a session's or a database's must not be seen in the answers.
        connection.execute(text(f"ALTER DATABASE {name}_words SET timezone TO 'America/New_York'"))
    admin.dispose()
    whole = create_engine(_sync(server.url(f"{name}_whole")), connect_args={"options": "-c timezone=UTC"})
    with whole.begin() as connection:
        for schema in ("meaning_left", "meaning_right"):
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        WHOLE.create_all(connection)
        connection.execute(insert(WHOLE_LEFT), left_rows())
        connection.execute(insert(WHOLE_RIGHT), right_rows())
    left = {kind: server.url(f"{name}_{kind}") for kind in ("code", "words")}
    file = tmp_path_factory.mktemp("meaning") / "right.db"
    right = {"mysql": other.url(name), "sqlite": f"sqlite+aiosqlite:///{file}"}
    for one, two in (("code", "mysql"), ("words", "sqlite")):
        asyncio.run(_fill(left[one], right[two]))
    yield Places(whole, left, right)
    whole.dispose()
    for database in (name, *languages):
        server.admin.drop(database)
    other.admin.drop(name)


def _sync(url: str) -> str:
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


async def _fill(left: str, right: str) -> None:
    async with Federation({"meaning_left": left, "meaning_right": right}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            await session.execute(insert(LEFT), left_rows())
            await session.execute(insert(RIGHT), right_rows())
            await session.commit()


def asked(connection: Connection | Session, statement: str) -> list[tuple[Any, ...]] | Exception:
    """The rows of a statement, or the error."""
    try:
        return [tuple(row) for row in connection.execute(text(statement))]
    except SQLAlchemyError as error:
        connection.rollback()
        return error


def alike(one: Any, two: Any) -> bool:
    """Equal values, UUIDs as texts; what is a decimal in PostgreSQL alone may be a float, to 12 digits."""
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(alike(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, Decimal | float) and isinstance(two, Decimal | float | int) and not isinstance(two, bool):
        return one == two or math.isclose(float(one), float(two), rel_tol=1e-12)
    if isinstance(one, Exception) and isinstance(two, Exception):
        return True
    return type(one).__name__ == "UUID" and str(one) == str(two) if type(one).__name__ == "UUID" else bool(one == two)


def statement_of(line: str) -> str:
    if line.upper().startswith(("SELECT", "WITH")):
        return line.replace("{FROM}", FROM)
    return f"SELECT x.k, {line} AS result{FROM} ORDER BY x.k"


@pytest.mark.parametrize(("left", "right"), [("code", "mysql"), ("words", "sqlite")])
@pytest.mark.parametrize("topic", TOPICS)
def test_as_in_postgresql(places: Places, topic: str, left: str, right: str) -> None:
    """Each line of a topic: the same rows, and an error where there is one.

    MariaDB's texts ignore case, accents and trailing spaces; the other PostgreSQL orders texts as English does, and its
    connections are in New York's time.
    """
    lines = (Path(__file__).parent / "meaning" / f"{topic}.sql").read_text().splitlines()[1:]
    services = {"meaning_left": places.left[left], "meaning_right": places.right[right]}
    different = []
    with places.whole.connect() as whole, Federation(services) as fed, fed.sync_session() as session:
        for line in lines:
            expected, found = asked(whole, statement_of(line)), asked(session, statement_of(line))
            if not alike(expected, found):
                different.append((line, expected, found))
    assert different == []


def test_random_expressions(places: Places) -> None:
    """Whatever is put into one another."""
    services = {"meaning_left": places.left["code"], "meaning_right": places.right["mysql"]}
    with places.whole.connect() as whole, Federation(services) as fed, fed.sync_session() as session:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        @given(st.sampled_from(list(FORMS)).flatmap(lambda kind: expressions(kind)))
        def run(expression: str) -> None:
            expected = asked(whole, statement_of(expression))
            if not isinstance(expected, Exception):
                assert alike(expected, asked(session, statement_of(expression))), expression

        run()


DIFFERENT = [
    ("x.n / 3", [0.5, 3.3666666666666667]),  # A float where PostgreSQL has a decimal of 16 digits or more.
    ("avg(x.n) OVER (PARTITION BY x.k)", [1.5, 10.1]),
    ("x.j * 2000000000", [4000000000, 6000000000]),  # All whole numbers have 64 bits.
    ("x.js->'a'", ['{"b":[1,2]}', None]),  # JSON as text, without spaces.
    ("upper('stra\xdfe' || x.t)", ["STRA\u1e9eEX", "STRA\u1e9eE\xc9"]),
]


@pytest.mark.parametrize(("expression", "expected"), DIFFERENT)
def test_what_is_different(places: Places, expression: str, expected: list[Any]) -> None:
    """The differences that the documentation names."""
    services = {"meaning_left": places.left["code"], "meaning_right": places.right["mysql"]}
    with Federation(services) as fed, fed.sync_session() as session:
        statement = f"SELECT {expression}{FROM} WHERE x.k IN (1, 4) ORDER BY x.k"
        found = [row[0] for row in session.execute(text(statement))]
    assert found == expected
    assert [type(one) for one in found] == [type(one) for one in expected]


REFUSED = {
    "nosuch(x.i)": "no engine of a federated select has a function nosuch()",
    "uper(x.t)": "did you mean upper",
    "justify_days(x.ts - y.ts)": "function justify_days",
    "sum(x.t)": "sum",
    "x.d + x.d": "DATE",
    "x.t + 1": "cannot be finished",
    "to_char(x.n, 'FM990.00')": "FM990.00",
    "to_char(x.ts, 'Day')": 'write "FM" before',
    "regexp_matches(x.u, 'a')": "write ~",
    "format('%s', x.t)": "FORMAT",
    "x.t SIMILAR TO y.t": "as a constant",
    "array_length(x.arr, 2)": "one dimension",
    "x.js::jsonb ? 's'": "no counterpart",
    "x.g = 'nothing'": "is no UUID",
}


@pytest.mark.parametrize(("expression", "message"), REFUSED.items())
def test_what_is_refused(places: Places, expression: str, message: str) -> None:
    """What has no counterpart, or another meaning there, is refused by name before a service is asked."""
    services = {"meaning_left": places.left["code"], "meaning_right": places.right["mysql"]}
    with Federation(services) as fed, fed.sync_session() as session:
        session.execute(text(f"SELECT x.k, y.t{FROM}"))  # After which the planner knows how large the tables are.
        sent = [one.statements for one in fed.stats().services.values()]
        with pytest.raises(UnsupportedQueryError) as refused:
            session.execute(text(f"SELECT {expression}{FROM}"))
        assert message in str(refused.value)
        assert [one.statements for one in fed.stats().services.values()] == sent
        assert isinstance(refused.value, UnknownFunctionError) == ("function" in message or "upper" in message)
