"""How a PostgreSQL database tells relays that events were committed: a trigger on the outbox sends a notification."""

from __future__ import annotations

from typing import Any

from sqlalchemy import DDL, Connection, event, exc, text

CHANNEL = "fedorm_outbox"
PREPARES = "fedorm.prepares"
"""A setting, on in a transaction that will be prepared: PostgreSQL prepares none that has sent a notification."""

_FUNCTION = DDL(  # type: ignore[no-untyped-call]
    "CREATE OR REPLACE FUNCTION fedorm_outbox_wake() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    f"IF current_setting('{PREPARES}', true) IS DISTINCT FROM 'on' THEN PERFORM pg_notify('{CHANNEL}', ''); END IF; "
    "RETURN NULL; END $$"
)
_TRIGGER = DDL(  # type: ignore[no-untyped-call]
    "CREATE TRIGGER fedorm_outbox_wake AFTER INSERT ON fedorm_outbox "
    "FOR EACH STATEMENT EXECUTE FUNCTION fedorm_outbox_wake()"
)
_IS_THERE = text(
    "SELECT EXISTS (SELECT 1 FROM pg_trigger WHERE tgname = 'fedorm_outbox_wake' AND tgrelid = to_regclass(:outbox))"
)


def wake_with(table: Any) -> None:
    """Make the trigger with the table, where that is made by SQLAlchemy."""
    for ddl in (_FUNCTION, _TRIGGER):
        event.listen(table, "after_create", ddl.execute_if(dialect="postgresql"))


def ensure_waking(connection: Connection) -> bool:
    """Make the trigger where it is not there yet, as after a migration; say whether it is there now."""
    there = _IS_THERE.bindparams(outbox=CHANNEL)
    if connection.scalar(there):
        return True
    try:
        with connection.begin_nested():
            for ddl in (_FUNCTION, _TRIGGER):
                connection.execute(ddl)
    except exc.ProgrammingError:
        # Not allowed to, or made by another relay at the same moment.
        return connection.scalar(there) is True
    return True
