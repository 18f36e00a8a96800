"""Branches over each driver: prepared, ended by their own connection or by another one, refused, lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import exc as sa_exc
from sqlalchemy import text

from fedorm.exc import BranchHeldError, ServiceUnavailableError, TwoPhaseError
from fedorm.stores.branches import FORMAT, Branch, new_id
from fedorm.testing.servers import MariaDBServer, PostgreSQLServer, Server
from fedorm.testing.servers.postgresql import SETTINGS
from tests.stores.opened import DRIVERS, LOG, SERVICE, Opened, mark, over, run

POSTGRESQL, MYSQL = ("asyncpg", "psycopg"), ("aiomysql", "pymysql")
DEADLOCK = 1213


@over()
def test_a_branch_commits(opened: Opened) -> None:
    """Prepared, it is listed and unseen; committed, it is there, and its connection takes the next transaction."""
    before = datetime.now(UTC)
    connection, transaction, branch = opened.begin(1)
    assert opened.in_doubt() == []
    transaction.prepare()
    with opened.engine.connect() as other:
        (found,) = opened.store.in_doubt(other)
    assert found.branch == branch
    assert before - timedelta(seconds=1) <= found.since <= datetime.now(UTC) + timedelta(seconds=1)
    assert opened.marks() == []
    transaction.commit()
    assert (opened.marks(), opened.in_doubt()) == ([1], [])
    with connection.begin():
        mark(connection, 2)
    connection.close()
    with opened.engine.begin() as connection:
        mark(connection, 3)
    assert opened.marks() == [1, 2, 3]


@over()
def test_a_prepared_branch_rolls_back(opened: Opened) -> None:
    """Nothing of it is there, and its connection takes the next transaction."""
    connection, transaction, _ = opened.begin(1)
    transaction.prepare()
    transaction.rollback()
    assert (opened.marks(), opened.in_doubt()) == ([], [])
    with connection.begin():
        mark(connection, 2)
    connection.close()
    assert opened.marks() == [2]


@over()
def test_a_branch_ends_in_one_phase(opened: Opened) -> None:
    """One that is not prepared commits or rolls back as any transaction; and many do over one connection."""
    for number, commits in enumerate([True, False, True, False]):
        connection, transaction, _ = opened.begin(number)
        if commits:
            transaction.commit()
        else:
            transaction.rollback()
        connection.close()
    assert (opened.marks(), opened.in_doubt()) == ([0, 2], [])


@over()
def test_a_branch_that_only_reads(opened: Opened) -> None:
    """It can be prepared and ended, too, or released without."""
    for ends in ("commit", "rollback"):
        connection, transaction, _ = opened.begin()
        assert connection.scalar(text("SELECT count(*) FROM marks")) == 0
        transaction.prepare()
        getattr(transaction, ends)()
        connection.close()
    connection, transaction, _ = opened.begin()
    assert connection.scalar(text("SELECT count(*) FROM marks")) == 0
    transaction.commit()
    connection.close()
    assert opened.in_doubt() == []


@over()
def test_an_empty_branch(opened: Opened) -> None:
    """One in which nothing was said ends without a trace."""
    for ends in ("commit", "rollback"):
        connection, transaction, _ = opened.begin()
        getattr(transaction, ends)()
        connection.close()
    assert opened.in_doubt() == []


@over()
def test_savepoints_within_a_branch(opened: Opened) -> None:
    """What came after a savepoint is taken back, and the rest is prepared."""
    connection, transaction, _ = opened.begin(1)
    savepoint = connection.begin_nested()
    mark(connection, 2)
    savepoint.rollback()
    with connection.begin_nested():
        mark(connection, 3)
    with pytest.raises(sa_exc.IntegrityError), connection.begin_nested():
        mark(connection, 1)
    transaction.prepare()
    transaction.commit()
    connection.close()
    assert opened.marks() == [1, 3]


@over()
def test_a_branch_outlives_its_connection(opened: Opened) -> None:
    """Any other connection ends it, once."""
    for number, commit in ((1, True), (2, False)):
        branch = opened.left(number)
        assert opened.in_doubt() == [branch]
        assert [opened.end(branch, commit=commit) for _ in range(3)] == [True, False, False]
        assert opened.in_doubt() == []
    assert opened.marks() == [1]
    assert opened.end(Branch(new_id(), SERVICE, "decider", LOG), commit=True) is False


@over(*MYSQL)
def test_a_branch_is_held_by_its_connection(opened: Opened) -> None:
    """While that lives MariaDB lets no other end it, which is told from a branch that is gone."""
    connection, transaction, branch = opened.begin(1)
    transaction.prepare()
    for commit in (True, False):
        with pytest.raises(BranchHeldError, match=f"service '{SERVICE}' at .*{branch.id}.* living connection"):
            opened.end(branch, commit=commit, patience=0)
    transaction.commit()
    connection.close()
    assert opened.marks() == [1]


@over(*POSTGRESQL)
def test_a_branch_is_ended_under_its_connection(opened: Opened) -> None:
    """PostgreSQL lets go of it when it is prepared; its own connection then finds it gone, and still works."""
    connection, transaction, branch = opened.begin(1)
    transaction.prepare()
    assert opened.end(branch, commit=True) is True
    with pytest.raises(sa_exc.DBAPIError, match=branch.id):
        transaction.commit()
    connection.close()
    with opened.engine.begin() as connection:
        mark(connection, 2)
    assert opened.marks() == [1, 2]


@over(*POSTGRESQL)
def test_a_failed_transaction_is_not_prepared(opened: Opened) -> None:
    """PostgreSQL answers ROLLBACK instead of an error: it is one."""
    connection, transaction, _ = opened.begin(1)
    with pytest.raises(sa_exc.IntegrityError):
        mark(connection, 1)
    with pytest.raises(TwoPhaseError, match=rf"^service '{SERVICE}'.*rolled back instead of prepared"):
        transaction.prepare()
    transaction.rollback()
    with connection.begin():
        mark(connection, 2)
    connection.close()
    assert (opened.marks(), opened.in_doubt()) == ([2], [])


@over(*POSTGRESQL)
def test_a_constraint_fails_at_the_prepare(opened: Opened) -> None:
    """What is checked at the end is checked then; nothing is prepared, and the connection works."""
    with opened.engine.begin() as connection:
        connection.execute(text("ALTER TABLE marks ADD UNIQUE (was) DEFERRABLE INITIALLY DEFERRED"))
    connection, transaction, _ = opened.begin()
    connection.execute(text("INSERT INTO marks VALUES (1, 7), (2, 7)"))
    with pytest.raises(sa_exc.IntegrityError, match="marks_was_key") as raised:
        transaction.prepare()
    assert raised.value.__notes__ == [f"service: {SERVICE}"]
    transaction.rollback()
    with connection.begin():
        mark(connection, 3)
    connection.close()
    assert (opened.marks(), opened.in_doubt()) == ([3], [])


@over()
def test_a_name_that_is_taken(opened: Opened) -> None:
    """The second branch of the same name is refused, the first is untouched, and both connections work."""
    first, prepared, branch = opened.begin(1)
    prepared.prepare()
    said = "XAER_DUPID" if opened.engine.dialect.name == "mysql" else branch.id
    with pytest.raises(sa_exc.DBAPIError, match=said):  # noqa: PT012 - at its start or when it is prepared
        second = opened.engine.connect()
        try:
            twin = second.begin_twophase(branch)
            mark(second, 2)
            try:
                twin.prepare()
            except sa_exc.DBAPIError:
                twin.rollback()
                with second.begin():
                    mark(second, 3)
                raise
        finally:
            second.close()
    prepared.commit()
    first.close()
    assert opened.in_doubt() == []
    assert set(opened.marks()) - {3} == {1}


@over(*MYSQL)
def test_a_deadlock_ends_a_branch(opened: Opened) -> None:
    """The branch that the server has sacrificed cannot be prepared; it rolls back, and the other one commits."""
    with opened.engine.begin() as connection:
        connection.execute(text("INSERT INTO marks VALUES (1, 0), (2, 0)"))
    update = text("UPDATE marks SET was = was + :by WHERE n = :n")

    def work(own: int, other: int) -> str:
        connection, transaction, _ = opened.begin()
        try:
            connection.execute(update, {"n": own, "by": own})
            connection.execute(text("DO SLEEP(0.5)"))
            error: BaseException | None = None
            try:
                connection.execute(update, {"n": other, "by": own})
            except sa_exc.DBAPIError as sacrificed:
                error = sacrificed.orig
            if error is None:
                transaction.prepare()
                transaction.commit()
                return "committed"
            assert error.args[0] == DEADLOCK
            with pytest.raises(sa_exc.DBAPIError):
                transaction.prepare()
            transaction.rollback()
            with connection.begin():  # It works on.
                assert connection.scalar(text("SELECT 1")) == 1
            return "sacrificed"
        finally:
            connection.close()

    ended = opened.bridge.side_by_side([lambda: work(1, 2), lambda: work(2, 1)])
    assert sorted(ended) == ["committed", "sacrificed"]
    with opened.engine.connect() as connection:
        by = ended.index("committed") + 1
        assert list(connection.scalars(text("SELECT was FROM marks ORDER BY n"))) == [by, by]
    assert opened.in_doubt() == []


@over()
def test_names_of_any_service(opened: Opened) -> None:
    """A branch is found under the name it was given, whatever the services are called."""
    for name in ("a" * 31, "a_service_whose_name_does_not_fit_into_an_xa_id", "übersicht", "表"):
        connection, transaction, branch = opened.begin(branch=Branch(new_id(), name, name, LOG))
        mark(connection, len(name))
        transaction.prepare()
        (found,) = opened.in_doubt()
        assert found.gid == branch.gid
        assert len(branch.gtrid) <= 64 >= len(branch.bqual)
        connection.invalidate()
        connection.close()
        assert opened.end(found, commit=False) is True


@over()
def test_others_prepared_transactions(opened: Opened) -> None:
    """What is not named as fedorm names it is not listed."""
    for name in ("other", "fedorm:x:y", f"fedorm:{LOG}:{new_id()}:decider", f"fedorm:{LOG}:short:decider:{SERVICE}"):
        if opened.engine.dialect.name == "mysql":
            gtrid, _, bqual = name.rpartition(":")
            number = 1 if name == "other" else FORMAT
            xid = f"'{gtrid or 'x'}','{bqual}',{number}"
            commands = [f"XA START {xid}", "SELECT 1", f"XA END {xid}", f"XA PREPARE {xid}"]
            end = f"XA ROLLBACK {xid}"
        else:
            commands = ["BEGIN", "INSERT INTO marks VALUES (1)", f"PREPARE TRANSACTION '{name}'"]
            end = f"ROLLBACK PREPARED '{name}'"
        with opened.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for command in commands:
                connection.exec_driver_sql(command)
            assert opened.in_doubt() == []
            connection.exec_driver_sql(end)


@over()
def test_branches_of_other_databases(opened: Opened) -> None:
    """Those that the service could not end are not listed by PostgreSQL; MySQL lists the whole server's."""
    branch = opened.left(1)
    url = opened.engine.url.set(database="mysql" if opened.engine.dialect.name == "mysql" else "postgres")
    assert opened.in_doubt() == [branch]

    def elsewhere(other: Opened) -> list[Branch]:
        return [one for one in other.in_doubt() if one.id == branch.id]

    found = run("pymysql", url.render_as_string(hide_password=False), elsewhere)
    assert found == ([branch] if opened.engine.dialect.name == "mysql" else [])


# -- what goes wrong on the way


def _end_connection(opened: Opened, connection: Any) -> None:
    """Let the server end a connection of the test's."""
    mysql = opened.engine.dialect.name == "mysql"
    number = connection.scalar(text("SELECT connection_id()" if mysql else "SELECT pg_backend_pid()"))
    _kill(opened, number)


def _kill(opened: Opened, number: int) -> None:
    mysql = opened.engine.dialect.name == "mysql"
    with opened.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        other.exec_driver_sql(f"KILL {number}" if mysql else f"SELECT pg_terminate_backend({number}, 5000)")


@over()
def test_a_connection_is_lost_before_the_prepare(opened: Opened) -> None:
    """The service is named, nothing is prepared, and the transaction can be closed."""
    connection, transaction, _ = opened.begin(1)
    _end_connection(opened, connection)
    with pytest.raises(ServiceUnavailableError, match=f"service '{SERVICE}'"):
        transaction.prepare()
    transaction.rollback()
    connection.close()
    assert (opened.marks(), opened.in_doubt()) == ([], [])


@over()
def test_a_connection_is_lost_when_a_branch_is_prepared(opened: Opened) -> None:
    """The service is named, and another connection can end the branch as was decided."""
    mysql = opened.engine.dialect.name == "mysql"
    connection, transaction, branch = opened.begin()
    number = connection.scalar(text("SELECT connection_id()" if mysql else "SELECT pg_backend_pid()"))
    mark(connection, 1)
    transaction.prepare()
    _kill(opened, number)
    with pytest.raises(ServiceUnavailableError, match=f"service '{SERVICE}'"):
        transaction.commit()
    connection.close()
    assert opened.in_doubt() == [branch]
    assert opened.end(branch, commit=True) is True
    assert opened.marks() == [1]


@pytest.mark.parametrize("driver", DRIVERS)
def test_branches_outlive_their_server(driver: str) -> None:
    """A server that is killed comes back with what was prepared, which then can be ended either way."""
    server: Server = MariaDBServer() if DRIVERS[driver] == "mysql" else PostgreSQLServer()
    with server:
        server.create_database("lasting")

        def work(opened: Opened) -> None:
            opened.make_table()
            kept, undone = opened.begin(1), opened.begin(2)
            for _, transaction, _ in (kept, undone):
                transaction.prepare()
            server.kill()
            for connection, transaction, _ in (kept, undone):
                with pytest.raises(ServiceUnavailableError, match=f"service '{SERVICE}'"):
                    transaction.commit()
                connection.close()
            server.restart()
            assert {branch.id for branch in opened.in_doubt()} == {kept[2].id, undone[2].id}
            assert opened.end(kept[2], commit=True) is True
            assert opened.end(undone[2], commit=False) is True
            assert (opened.marks(), opened.in_doubt()) == ([1], [])

        run(driver, server.url("lasting"), work)


@pytest.mark.parametrize("driver", POSTGRESQL)
def test_a_server_that_cannot_prepare(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told by its setting, with what to do."""
    monkeypatch.setitem(SETTINGS, "max_prepared_transactions", "0")
    with PostgreSQLServer() as server:

        def work(opened: Opened) -> None:
            refusal = opened.store.two_phase_refusal(opened.engine)
            assert refusal is not None
            assert refusal.startswith("its max_prepared_transactions is 0")
            assert "ALTER SYSTEM SET max_prepared_transactions = 200  and restart" in refusal

        run(driver, server.url(), work)


@over()
def test_a_server_that_can_prepare(opened: Opened) -> None:
    """Nothing is said against it, and it is asked once."""
    assert opened.store.two_phase_refusal(opened.engine) is None
    assert opened.store.two_phase_refusal(opened.engine) is None


@over(timeout=5.0)
def test_a_service_with_a_time_limit(opened: Opened) -> None:
    """What a limit sends at a connection's start is outside of the first branch."""
    for number in (1, 2):
        connection, transaction, _ = opened.begin(number)
        transaction.prepare()
        transaction.commit()
        connection.close()
    assert opened.marks() == [1, 2]
