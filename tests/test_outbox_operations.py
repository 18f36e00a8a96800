"""Triggers made by migrations: Alembic's operations, by hand, from autogenerate, and as a script."""

from __future__ import annotations

import io
import os
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.operations.ops import DowngradeOps, UpgradeOps
from sqlalchemy import Connection, Engine, MetaData, Table, delete, insert, make_url, select, text, update
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects import postgresql as postgresql_dialect

from fedorm import FederatedBase
from fedorm.bookkeeping import ensure, own_metadata
from fedorm.config import settings_from_mapping
from fedorm.outbox.operations import CreateOutboxTriggersOp, DropOutboxTriggersOp
from fedorm.outbox.tables import fedorm_outbox
from fedorm.outbox.triggers.capture import Capture
from fedorm.outbox.triggers.captures import captures
from fedorm.outbox.triggers.installed import stale
from fedorm.stores.base import store_for
from fedorm.stores.sql import SQLStore
from tests.triggered import SERVICE, ByTriggers, LineByTriggers, Part, full

PARTS, OUTBOX = Part.__table__, fedorm_outbox(SERVICE)
OF_TRIGGERS = (CreateOutboxTriggersOp, DropOutboxTriggersOp)
METADATA = [FederatedBase.metadata_of(SERVICE), own_metadata(SERVICE)]
COLUMNS = [
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("name", sa.String(length=50)),
    sa.Column("whole_id", sa.Integer()),
]
TYPES = {"insert": "part.new", "update": "part.changed", "delete": "part.gone"}


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    yield from prepared(f"sqlite+aiosqlite:///{tmp_path / 'service.db'}")


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def url(request: pytest.FixtureRequest, fresh_database: Callable[[str], str], tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'service.db'}"
    return fresh_database(request.param)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    yield from prepared(url)


def prepared(url: str) -> Iterator[Engine]:
    """A database with the models' tables and an outbox, without triggers."""
    store = store_for(SERVICE, settings_from_mapping({SERVICE: url}).services[SERVICE])
    assert isinstance(store, SQLStore)
    FederatedBase.metadata_of(SERVICE).create_all(store.sync_engine)
    ensure(store.sync_engine, OUTBOX)
    yield store.sync_engine
    store.sync_engine.dispose()


def migrate(engine: Engine, change: Callable[[], None]) -> None:
    """What ``upgrade()`` or ``downgrade()`` of a revision does."""
    with engine.begin() as connection, Operations.context(context(connection)):
        change()


def context(connection: Connection, **options: Any) -> MigrationContext:
    """What ``env.py`` sets up."""
    opts = {"target_metadata": METADATA, "compare_type": False, **options}
    return MigrationContext.configure(connection, opts=opts)


def told(connection: Connection) -> list[tuple[str, str, Any]]:
    rows = connection.execute(select(OUTBOX).order_by(OUTBOX.c.position)).all()
    connection.execute(delete(OUTBOX))
    return [(row.type, row.key, row.data) for row in rows]


def change_a_part(connection: Connection) -> None:
    connection.execute(insert(PARTS).values(id=1, name="a"))
    connection.execute(update(PARTS).values(whole_id=1))
    connection.execute(delete(PARTS))


def test_triggers_are_made_and_dropped(engine: Engine) -> None:
    """Those of a table for the changes that have a type, made anew by the next revision, until one drops them."""
    migrate(engine, lambda: op.create_outbox_triggers("parts", *COLUMNS, types=TYPES))
    with engine.begin() as connection:
        change_a_part(connection)
        part = {"id": 1, "name": "a"}
        within = part | {"whole_id": 1}
        assert told(connection) == [
            ("part.new", "1", {"key": {"id": 1}, "values": part | {"whole_id": None}}),
            (
                "part.changed",
                "1",
                {"key": {"id": 1}, "values": within, "changed": {"whole_id": [None, 1]}},
            ),
            ("part.gone", "1", {"key": {"id": 1}, "values": within}),
        ]
    migrate(
        engine,
        lambda: op.create_outbox_triggers("parts", *COLUMNS, types={"delete": "gone"}, values=["name"], key=["name"]),
    )
    with engine.begin() as connection:
        change_a_part(connection)
        assert told(connection) == [("gone", "a", {"key": {"id": 1}, "values": {"name": "a"}})]
    for _ in range(2):
        migrate(engine, lambda: op.drop_outbox_triggers("parts"))
        with engine.begin() as connection:
            change_a_part(connection)
            assert told(connection) == []


def test_autogenerate_writes_what_the_models_say(engine: Engine) -> None:
    """What it writes makes the triggers, after which no difference is left; and undoes it."""
    upgrade, downgrade = revision(engine)
    migrate(engine, upgrade)
    assert triggers_that_differ(engine) == []
    with engine.begin() as connection:
        connection.execute(insert(ByTriggers).values(id=1, **full()))
        connection.execute(insert(LineByTriggers).values(order="o", number=1, sku="a", amount=1))
        connection.execute(update(LineByTriggers).values(sku="b"))
        assert sorted(kind for kind, _, _ in told(connection)) == [
            "line.inserted", "line.updated", "sku.updated", "thing.inserted"
        ]  # fmt: skip
    migrate(engine, downgrade)
    with engine.begin() as connection:
        change_a_part(connection)
        assert told(connection) == []


def test_autogenerate_writes_the_tables_of_fedorm(engine: Engine) -> None:
    """What it writes for an empty database names only what a revision imports, and leaves no difference."""
    own = own_metadata(SERVICE)
    opts = {"target_metadata": own, "include_name": lambda name, kind, _: kind != "table" or name in own.tables}
    with engine.begin() as connection:
        OUTBOX.drop(connection)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection, opts=opts)) as made:
        upgrade, names = produce_migrations(made.migration_context, own).upgrade_ops, {"mysql": mysql, "sa": sa}
        code = textwrap.dedent("    " + render_python_code(upgrade))
        exec(code, names | {"op": op, "postgresql": postgresql_dialect})
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=opts), own) == []


def revision(engine: Engine) -> tuple[Callable[[], None], Callable[[], None]]:
    """``upgrade()`` and ``downgrade()`` as autogenerate writes them, of triggers alone."""
    with engine.connect() as connection:
        script = produce_migrations(context(connection), METADATA)

    def function(operations: Any) -> Callable[[], None]:
        operations.ops[:] = [one for one in operations.ops if isinstance(one, OF_TRIGGERS)]
        code = textwrap.dedent("    " + render_python_code(operations))
        return lambda: exec(code, {"op": op, "sa": sa})

    return function(script.upgrade_ops), function(script.downgrade_ops)


def triggers_that_differ(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        found = compare_metadata(context(connection), METADATA)
    return [one for one in found if "outbox_triggers" in one[0]]


def test_autogenerate_sees_triggers_that_are_not_right(engine: Engine) -> None:
    """One that writes something else, one that is switched off, and those of a rule that is gone."""
    migrate(engine, revision(engine)[0])
    assert triggers_that_differ(engine) == []
    migrate(engine, lambda: op.create_outbox_triggers("parts", *COLUMNS[:2], types=TYPES))
    migrate(engine, lambda: op.create_outbox_triggers("line_by_triggers", *line_columns(), types=TYPES, number=3))
    migrate(engine, lambda: op.create_outbox_triggers("by_session", *COLUMNS[:1], types=TYPES))
    expected = [
        ("drop_outbox_triggers", "by_session"),
        ("drop_outbox_triggers", "line_by_triggers"),
        ("create_outbox_triggers", "parts"),
    ]
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE by_triggers DISABLE TRIGGER fedorm_outbox_by_triggers_delete"))
        expected.append(("create_outbox_triggers", "by_triggers"))
    assert sorted(triggers_that_differ(engine)) == sorted(expected)
    migrate(engine, revision(engine)[0])
    assert triggers_that_differ(engine) == []


def test_a_downgrade_says_what_it_does_not_know(engine: Engine) -> None:
    """Of triggers that are made anew, the database does not say what they were made of before."""
    migrate(engine, lambda: op.create_outbox_triggers("parts", *COLUMNS[:2], types=TYPES))
    with engine.connect() as connection:
        script = produce_migrations(context(connection), METADATA)
    code = render_python_code(script.downgrade_ops)
    assert code.count("# Make here the triggers of the revision before") == 1
    lines = code.splitlines()
    assert "op.drop_outbox_triggers('parts')" in lines[[bool("# Make here" in line) for line in lines].index(True) + 1]


@pytest.mark.parametrize("columns", [3, 2], ids=["same", "changed"])
def test_a_table_that_is_made_anew_has_its_triggers_again(sqlite: Engine, columns: int) -> None:
    """SQLite changes a column by a new table, and drops the triggers with the old one."""
    before = PARTS.to_metadata(MetaData())
    before.c.name.nullable = True
    with sqlite.begin() as connection:
        PARTS.drop(connection)
        before.create(connection)
    migrate(sqlite, revision(sqlite)[0])
    if columns < 3:
        migrate(sqlite, lambda: op.create_outbox_triggers("parts", *COLUMNS[:columns], types=TYPES))
    options = {"render_as_batch": True, "include_name": lambda name, *_: "fedorm_" not in str(name)}
    with sqlite.connect() as connection:
        script = produce_migrations(context(connection, **options), METADATA[0])
    upgrade, downgrade = (
        textwrap.dedent("    " + render_python_code(ops, render_as_batch=True))
        for ops in (script.upgrade_ops, script.downgrade_ops)
    )
    assert upgrade.count("batch_alter_table") == downgrade.count("batch_alter_table") == 1
    migrate(sqlite, lambda: exec(upgrade, {"op": op, "sa": sa}))
    assert not sa.inspect(sqlite).get_columns("parts")[1]["nullable"]
    assert triggers_that_differ(sqlite) == []
    migrate(sqlite, lambda: exec(downgrade, {"op": op, "sa": sa}))
    assert sa.inspect(sqlite).get_columns("parts")[1]["nullable"]
    with sqlite.connect() as connection:
        wrong = stale(connection, PARTS, captures(SERVICE)[PARTS])
    assert len(wrong) == (0 if columns == 3 else 3)
    assert ("# Make here the triggers of the revision before" in downgrade) == (columns == 2)


def line_columns() -> list[sa.Column[Any]]:
    return [sa.Column("order", sa.String(40), primary_key=True), sa.Column("number", sa.Integer(), primary_key=True)]


def test_a_revision_reads_well() -> None:
    """Autogenerate lists columns, types, and only those options that are not left to the default."""
    metadata = MetaData()
    line = Table("lines", metadata, *line_columns(), sa.Column("sku", sa.String(20)), schema="shop")
    capture = Capture.of(
        line,
        types={"update": "sku.updated"},
        values=["sku"],
        key=["sku"],
        names={"sku": {"a": "A"}},
        number=2,
    )
    made = CreateOutboxTriggersOp(capture)
    assert render_python_code(UpgradeOps([made])) == (
        "# ### commands auto generated by Alembic - please adjust! ###\n"
        "    op.create_outbox_triggers(\n"
        "        'lines',\n"
        "        sa.Column('order', sa.String(length=40), primary_key=True),\n"
        "        sa.Column('number', sa.Integer(), primary_key=True),\n"
        "        sa.Column('sku', sa.String(length=20)),\n"
        "        types={'update': 'sku.updated'},\n"
        "        values=['sku'],\n"
        "        key=['sku'],\n"
        "        names={'sku': {'a': 'A'}},\n"
        "        number=2,\n"
        "        schema='shop',\n"
        "    )\n"
        "    # ### end Alembic commands ###"
    )
    dropped = made.reverse()
    assert render_python_code(DowngradeOps([dropped])) == (
        "# ### commands auto generated by Alembic - please adjust! ###\n"
        "    op.drop_outbox_triggers('lines', number=2, schema='shop')\n"
        "    # ### end Alembic commands ###"
    )


def test_a_script_runs_in_the_servers_own_client(engine: Engine, url: str) -> None:
    """``alembic upgrade --sql`` gives what psql, mariadb and SQLite take."""
    buffer = io.StringIO()
    script = MigrationContext.configure(
        dialect_name=engine.dialect.name,
        dialect_opts={"paramstyle": "named"},
        opts={"as_sql": True, "literal_binds": True, "output_buffer": buffer},
    )
    with Operations.context(script):
        op.create_outbox_triggers("parts", *COLUMNS, types=TYPES | {"insert": ODD_TYPE})
    run_script(engine, url, buffer.getvalue())
    with engine.begin() as connection:
        change_a_part(connection)
        assert [kind for kind, _, _ in told(connection)] == [ODD_TYPE, "part.changed", "part.gone"]


ODD_TYPE = 'it\'s; 100% "new" :x'


def run_script(engine: Engine, url: str, script: str) -> None:
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        connection.cursor().executescript(script)  # type: ignore[attr-defined]
        connection.close()
        return
    place = make_url(url)
    secret = dict(os.environ, PGPASSWORD=place.password or "", MYSQL_PWD=place.password or "")
    host, port, user = str(place.host), str(place.port), str(place.username)
    command = {
        "postgresql": ["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", user],
        "mysql": ["mariadb", "-h", host, "-P", port, "-u", user],
    }[engine.dialect.name]
    done = subprocess.run([*command, str(place.database)], input=script, env=secret, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def postgresql(fresh_database: Callable[[str], str]) -> Iterator[Engine]:
    for engine in prepared(fresh_database("postgresql")):
        migrate(engine, lambda engine=engine: op.create_outbox_triggers("parts", *COLUMNS, types=TYPES))
        yield engine


def test_a_writer_needs_no_right_to_the_outbox(postgresql: Engine) -> None:
    """Whoever may write to the table writes events, and no others: neither by a table of its own nor by a trigger."""
    with postgresql.connect() as connection:
        connection.execute(text("CREATE ROLE other_program"))
        connection.execute(text("GRANT ALL ON parts TO other_program"))
        connection.execute(text("SET ROLE other_program"))
        connection.execute(text("CREATE TEMPORARY TABLE fedorm_outbox (id text, type text, key text, data jsonb)"))
        connection.execute(text("INSERT INTO parts (id, name) VALUES (1, 'a')"))
        assert connection.scalar(text("SELECT count(*) FROM pg_temp.fedorm_outbox")) == 0
        for statement in (
            "SELECT * FROM public.fedorm_outbox",
            "CREATE TRIGGER mine AFTER INSERT ON pg_temp.fedorm_outbox FOR EACH ROW"
            " EXECUTE FUNCTION public.fedorm_outbox_parts_insert()",
        ):
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), connection.begin_nested():
                connection.execute(text(statement))
        connection.execute(text("RESET ROLE"))
        connection.execute(text("DROP TABLE pg_temp.fedorm_outbox"))
        assert told(connection) == [
            ("part.new", "1", {"key": {"id": 1}, "values": {"id": 1, "name": "a", "whole_id": None}})
        ]
        connection.rollback()


def test_long_names(engine: Engine) -> None:
    """Triggers of tables with long names that begin alike have names that differ, and that a database takes."""
    metadata = MetaData()
    tables = [Table(f"{'long' * 14}_{n}", metadata, sa.Column("id", sa.Integer(), primary_key=True)) for n in range(2)]
    metadata.create_all(engine)
    for n, table in enumerate(tables):
        migrate(
            engine,
            lambda table=table, n=n: op.create_outbox_triggers(
                table.name, sa.Column("id", sa.Integer(), primary_key=True), types={"insert": f"long.{n}"}
            ),
        )
    with engine.begin() as connection:
        for table in tables:
            connection.execute(insert(table).values(id=1))
        assert [kind for kind, _, _ in told(connection)] == ["long.0", "long.1"]
