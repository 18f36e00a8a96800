"""What ``fedorm doctor`` says of services that lack something: each finding, and that its mend is one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from fedorm import Federation
from fedorm.stores.findings import too_old
from fedorm.stores.mysql_grants import Grants, parsed
from fedorm.testing.plugin import unavailable
from fedorm.testing.servers import (
    MariaDBServer,
    MongoDBServer,
    PostgreSQLServer,
    ServerUnavailableError,
    mariadb,
    postgresql,
)
from tests.cli.conftest import Shell, write_settings
from tests.cli.offices import listed

MODELS = ("--models", "tests.cli.wards")
USER, PASSWORD = "Ward nurse", "secret-of-the-nurse"
RIGHTS = "SELECT, INSERT, UPDATE, DELETE"
Findings = dict[str, list[dict[str, Any]]]


def examined(shell: Shell, *options: str) -> tuple[int, Findings]:
    """The exit code, and by service and rule what was found."""
    done = shell(*MODELS, "doctor", "--json", *options)
    assert done.stderr == ""
    told = {one.get("service") or one["rule"]: one["findings"] for one in listed(done.stdout)}
    return done.exit_code, {name: findings for name, findings in told.items() if findings}


def problems(found: Findings) -> dict[str, list[str]]:
    return {name: [one["problem"] for one in findings] for name, findings in found.items()}


def mends(found: Findings, *names: str) -> list[str]:
    """The statements that are to be run for services and rules, each once."""
    told = [one["mend"] for name in names for one in found.get(name, ())]
    statements = [mend.partition("run  ")[2].partition("  ")[0].rstrip(";,") for mend in told]
    return list(dict.fromkeys(one for one in statements if one))


def run_there(url: str, *statements: str) -> None:
    """Run statements, each by itself, as the server's own user."""
    plain = make_url(url)
    driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}[plain.get_backend_name()]
    engine = create_engine(plain.set(drivername=driver), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))


def create(urls: dict[str, str]) -> None:
    async def work() -> None:
        async with Federation(urls) as fed:
            await fed.create_all()

    __import__("tests.cli.wards")
    asyncio.run(work())


# -- privileges


@pytest.fixture
def nurse(fresh_database: Callable[[str], str], tmp_path: Path) -> Iterator[Shell]:
    """A hospital, for a user who may nothing but log in, and in MySQL read a table that is nobody's."""
    kinds = {"ward_desk": "postgresql", "ward_till": "mysql", "ward_archive": "postgresql"}
    urls = {name: fresh_database(kind) for name, kind in kinds.items()}
    create(urls)
    run_there(urls["ward_desk"], "DROP TABLE fedorm_outbox", f"CREATE ROLE \"{USER}\" LOGIN PASSWORD '{PASSWORD}'")
    run_there(
        urls["ward_till"],
        "CREATE TABLE lobby (id int)",
        f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'",
        f"GRANT SELECT ON lobby TO '{USER}'@'%'",
    )
    own = {name: make_url(url).set(username=USER, password=PASSWORD) for name, url in urls.items()}
    shown = {name: url.render_as_string(hide_password=False) for name, url in own.items()}
    yield Shell(tmp_path, write_settings(tmp_path, shown), urls)
    run_there(urls["ward_till"], f"DROP USER '{USER}'@'%'")
    for name in ("ward_desk", "ward_archive"):
        run_there(urls[name], f'DROP OWNED BY "{USER}"')
    run_there(urls["ward_desk"], f'DROP ROLE "{USER}"')


def test_privileges(nurse: Shell) -> None:
    """Of tables, of fedorm's own, of sequences and of logs; with what is said to run, nothing is missing any more."""
    code, found = examined(nurse)
    till = make_url(nurse.urls["ward_till"]).database
    user, owner = f"the user {USER}", make_url(nurse.urls["ward_desk"]).username
    may_make = f"{user} may not make tables in the schema public, and fedorm needs to make"
    bookkeeping = "fedorm_sync_rules, fedorm_sync_dead_letters, fedorm_sync_positions"
    assert code == 1
    assert "SELECT command denied" in found["bills"].pop()["problem"]  # How the rule does cannot be seen, either.
    assert {one["about"] for findings in found.values() for one in findings} == {"privilege"}
    assert problems(found) == {
        "ward_desk": [
            f"{may_make} fedorm_outbox, fedorm_outbox_deliveries, fedorm_outbox_partitions, {bookkeeping}",
            f'{user} has no {RIGHTS} on "Ward patients", ward_visitors',
            f"{user} has no {RIGHTS}, TRIGGER on ward_beds",
        ],
        "ward_archive": [
            f"{may_make} fedorm_sync_positions",
            f"{user} has no {RIGHTS} on archived_patients, archived_bills, listed_beds",
        ],
        "ward_till": [
            f"the user may not make tables, and fedorm needs to make {bookkeeping}",
            f"the user has no {RIGHTS} on {till}.ward_bills",
        ],
        "patients": [
            f"{user} may not read the log",
            f"{user} may not make a publication",
            f'WardPatient: the table "Ward patients" belongs to {owner}, and only its owner can publish it',
        ],
        "bills": [
            "the user has no REPLICATION SLAVE",
            "the user has no REPLICATION CLIENT",
            f"the user has no SELECT on {till}.ward_bills",
        ],
    }
    shown = nurse(*MODELS, "doctor").stdout
    assert f'\n  what to do: run  GRANT {RIGHTS} ON "Ward patients", ward_visitors TO "{USER}"\n' in shown
    while code:
        run_there(nurse.urls["ward_desk"], *mends(found, "ward_desk", "patients", "beds"))
        run_there(nurse.urls["ward_archive"], *mends(found, "ward_archive"))
        run_there(nurse.urls["ward_till"], *mends(found, "ward_till", "bills"))
        before, (code, found) = found, examined(nurse)
        assert found != before
    assert found == {}


def test_a_user_who_only_reads(nurse: Shell) -> None:
    """As the tables of models may well be meant, that is no error; with a column that may not be read it is one."""
    only = make_url(nurse.urls["ward_desk"]).set(username=USER, password=PASSWORD)
    nurse.config = write_settings(nurse.folder, {"ward_desk": only.render_as_string(hide_password=False)})
    columns = f'GRANT SELECT (id), INSERT (id, name) ON "Ward patients" TO "{USER}"'
    run_there(
        nurse.urls["ward_desk"], f'GRANT SELECT ON ward_visitors, ward_beds TO "{USER}"', columns,
        f'GRANT CREATE ON SCHEMA public TO "{USER}"',
    )  # fmt: skip
    code, found = examined(nurse)
    whole, reads, numbers = found["ward_desk"]
    assert (code, [(one["problem"], one["is_error"]) for one in found["ward_desk"]]) == (
        1,
        [
            (f'the user {USER} has no SELECT, UPDATE, DELETE on "Ward patients"', True),
            (f"the user {USER} has no INSERT, UPDATE, DELETE on ward_beds, ward_visitors", False),
            (f'the user {USER} may not use the sequences that number new rows, "Ward patients_id_seq"', True),
        ],
    )
    for finding in (whole, numbers):
        run_there(nurse.urls["ward_desk"], *mends({"it": [finding]}, "it"))
    assert examined(nurse) == (0, {"ward_desk": [reads]})
    assert "\nward_desk (perhaps as wanted): the user" in nurse(*MODELS, "doctor").stdout


@pytest.fixture
def asking_server() -> Iterator[MongoDBServer]:
    """A MongoDB server that asks for a password."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(MongoDBServer(auth=True))
        except ServerUnavailableError as error:
            unavailable(str(error))


def test_privileges_of_documents(asking_server: MongoDBServer, tmp_path: Path) -> None:
    """Reading, writing, and what fedorm keeps itself; with the roles that are said nothing is missing."""
    with asking_server.admin.client() as client:
        roles = [{"role": "read", "db": "ward"}]
        client["ward"].command("createUser", "nurse", pwd=PASSWORD, roles=roles)
        url = f"mongodb://nurse:{PASSWORD}@127.0.0.1:{asking_server.port}/ward?authSource=ward"
        shell = Shell(tmp_path, write_settings(tmp_path, {"ward_store": url}), {"ward_store": url})
        code, found = examined(shell)
        assert (code, [(one["problem"], one["is_error"]) for one in found["ward_store"]]) == (
            1,
            [
                ("the user nurse may not insert, remove, update in ward_drugs, ward_labels", False),
                (
                    "the user nurse may not createCollection, createIndex, insert, remove, update in fedorm_outbox, "
                    "fedorm_outbox_deliveries, fedorm_outbox_partitions",
                    True,
                ),
            ],
        )
        (mend,) = mends(found, "ward_store")
        user, granted = re.fullmatch(r'db\.getSiblingDB\("ward"\)\.grantRolesToUser\("(\w+)", (.+)\)', mend).groups()
        client["ward"].command("grantRolesToUser", user, roles=json.loads(granted))
        assert examined(shell) == (0, {})


def test_grants() -> None:
    """Of the server, of schemas by a pattern, of tables and columns, as MariaDB and MySQL list them."""
    grants = Grants(
        "'app'@'%'",
        tuple(
            parsed(
                [
                    "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*A'",
                    "GRANT SELECT, INSERT ON `shop\\_%`.* TO `app`@`%`",
                    "GRANT ALL PRIVILEGES ON `own`.* TO `app`@`%` WITH GRANT OPTION",
                    "GRANT SELECT (id, `a``b`), UPDATE (id), DELETE ON `till`.`bills` TO `app`@`%`",
                    "GRANT `clerk`@`%` TO `app`@`%`",
                    "GRANT EXECUTE ON PROCEDURE `till`.`pay` TO `app`@`%`",
                ]
            )
        ),
    )
    assert [grants.has(one) for one in ("REPLICATION SLAVE", "BINLOG MONITOR", "SELECT")] == [True, True, False]
    assert [grants.has("INSERT", schema) for schema in ("shop_1", "shopx1", "own", "till")] == [
        True,
        False,
        True,
        False,
    ]
    assert [grants.has("DELETE", "till", table) for table in ("bills", "pay")] == [True, False]
    assert [grants.has_for("SELECT", "till", "bills", columns) for columns in (["id", "a`b"], ["id", "c"], [])] == [
        True, False, False,
    ]  # fmt: skip


# -- settings


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PostgreSQLServer, MariaDBServer]]:
    """Servers as they are when nobody has set them up for logs to be read, or for commits in two phases."""
    monkeypatch.setitem(postgresql.SETTINGS, "wal_level", "replica")
    monkeypatch.setitem(postgresql.SETTINGS, "max_prepared_transactions", "0")
    plain = mariadb.SETTINGS.replace("log_bin = binlog", "").replace("binlog_format = ROW", "binlog_format = STATEMENT")
    monkeypatch.setattr(mariadb, "SETTINGS", plain)
    with ExitStack() as stack:
        try:
            yield stack.enter_context(PostgreSQLServer()), stack.enter_context(MariaDBServer())
        except ServerUnavailableError as error:
            unavailable(str(error))


def test_settings(servers: tuple[PostgreSQLServer, MariaDBServer], tmp_path: Path) -> None:
    """They are asked for where they are needed, with what sets them; a server that says nothing hides no other."""
    for server in servers:
        server.create_database("ward")
    first, second = (server.url("ward") for server in servers)
    urls = {"ward_desk": first, "ward_till": second, "ward_archive": first}
    create({name: urls[name] for name in ("ward_till", "ward_archive")})
    create({"ward_desk": first})
    shell = Shell(tmp_path, write_settings(tmp_path, urls), urls)
    code, found = examined(shell)
    assert (code, problems(found)) == (
        1,
        {
            "patients": ["wal_level is 'replica', so that the log does not tell of rows"],
            "bills": [
                "log_bin is 'OFF' and has to be 'ON'",
                "binlog_format is 'STATEMENT' and has to be 'ROW'",
            ],
        },
    )
    assert [one["mend"].partition(";  ")[0] for one in found["bills"]] == [
        "start the server with  log_bin  in its [mysqld] section", "run  SET GLOBAL binlog_format = 'ROW'",
    ]  # fmt: skip
    assert "note: ward_desk cannot take part in session(twophase=True)" in shell(*MODELS, "doctor").stdout
    refused = "its max_prepared_transactions is 0, so that no transaction can be prepared"
    assert problems(examined(shell, "--two-phase")[1])["ward_desk"] == [refused]
    servers[1].suspend()
    shell.config.write_text(
        shell.config.read_text().replace("connect_timeout = 5", "connect_timeout = 1")
        + "[transactions]\nrecover_on_start = true\n"
    )
    code, found = examined(shell)
    servers[1].resume()
    assert {name: one[0]["about"] for name, one in found.items()} == {
        "ward_desk": "setting", "ward_archive": "setting", "patients": "setting",
        "ward_till": "reach", "bills": "reach",
    }  # fmt: skip
    run_there(first, *mends(found, "ward_desk", "patients"))
    servers[0].restart()
    code, found = examined(shell)
    assert set(found) == {"bills"}
    run_there(first, "SELECT pg_create_logical_replication_slot('fedorm_ward_old', 'pgoutput')")
    run_there(
        first,
        "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'",
        "SELECT pg_reload_conf()",
        *["SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000)), pg_switch_wal()"] * 4,
        "CHECKPOINT",
    )
    lost = "the server has given up the replication slot fedorm_ward_old, whose log is gone"
    assert problems(examined(shell)[1])["ward_desk"] == [lost]


def test_versions() -> None:
    """One that is too old is told, as the server writes it."""
    assert too_old("PostgreSQL", "15.14", (12,)) is None
    assert too_old("MariaDB", "10.6.2-MariaDB-log", (10, 6)) is None
    assert too_old("MongoDB", "unknown", (4, 2)) is None
    for version, oldest in (("11.22", (12,)), ("10.5.8-MariaDB", (10, 6)), ("4.0", (4, 2))):
        found = too_old("It", version, oldest)
        assert found is not None
        assert (found.about, version in found.problem, found.is_error) == ("version", True, True)


# -- what the databases have


def test_drift(tmp_path: Path) -> None:
    """Without migrations tables and columns are missed; with them everything that is different, and revisions."""
    urls = {"ward_till": f"sqlite+aiosqlite:///{tmp_path / 'till.db'}"}
    shell = Shell(tmp_path, write_settings(tmp_path, urls), urls)
    assert problems(examined(shell)[1]) == {"ward_till": ["there is no table ward_bills"]}
    asyncio.run(_run_in_sqlite(urls, "CREATE TABLE ward_bills (id INTEGER NOT NULL PRIMARY KEY, extra TEXT)"))
    assert problems(examined(shell)[1]) == {"ward_till": ["ward_bills has no column cents"]}
    shell.rows(*MODELS, "migrate", "init")
    code, found = examined(shell)
    assert (code, problems(found)["ward_till"][:2]) == (
        1, ["ward_bills: column cents is not there", "ward_bills: no model declares column extra"],
    )  # fmt: skip
    assert {one["about"] for one in found["ward_till"]} == {"drift"}
    assert "fedorm migrate revision --service ward_till --autogenerate" in found["ward_till"][0]["mend"]
    asyncio.run(_run_in_sqlite(urls, "DROP TABLE ward_bills"))
    shell.rows(*MODELS, "migrate", "revision", "-s", "ward_till", "-m", "Begin", "--autogenerate")
    (behind, *_) = examined(shell)[1]["ward_till"]
    assert re.fullmatch(r"the database is at base, the newest revision is \w+", behind["problem"])
    assert behind["mend"] == "run  fedorm migrate upgrade --service ward_till"
    shell.rows(*MODELS, "migrate", "upgrade")
    assert examined(shell) == (0, {})


async def _run_in_sqlite(urls: dict[str, str], statement: str) -> None:
    from sqlalchemy import text

    async with Federation(urls) as fed, fed.session() as session:
        await session.execute(text(statement), bind_arguments={"service": "ward_till"})
        await session.commit()
