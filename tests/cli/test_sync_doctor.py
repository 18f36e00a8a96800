"""``fedorm doctor`` of sync rules: what stands against each, whether it lags, or has failed."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text, update

from fedorm import Federation
from fedorm.sync.tables import fedorm_sync_rules
from fedorm.testing.servers.processes import free_port
from tests.cli.conftest import Shell, write_settings
from tests.cli.mirrors import PaidVisit, SentLetter, SoldStamp
from tests.cli.offices import BOTH, listed, office_shell, write

__all__ = ["office_shell"]


def rules(shell: Shell) -> tuple[int, dict[str, tuple[Any, ...]]]:
    """The exit code, and of each rule its state, error and advice."""
    done = shell("doctor", "--json")
    found = [one for one in listed(done.stdout) if "rule" in one]
    return done.exit_code, {one["rule"]: (one["state"], one["error"], one["advice"]) for one in found}


def account(shell: Shell, rule: str, **values: Any) -> None:
    """Let the account of a rule say so, as its owner does who is alive."""

    async def work() -> None:
        async with Federation(shell.urls) as fed:
            await fed.sync.pause(rule)
            await fed.sync.resume(rule)
            table = fedorm_sync_rules("sync_cli_office")
            async with fed.session() as session:
                change = {"owner": "somebody", "until": time.time() + 600} | values
                await session.execute(
                    update(table).where(table.c.rule == rule).values(change),
                    bind_arguments={"service": "sync_cli_office"},
                )
                await session.commit()

    asyncio.run(work())


def run_at_office(shell: Shell, statement: str) -> None:
    async def work() -> None:
        async with Federation({name: shell.urls[name] for name in BOTH[:1]}) as fed, fed.session() as session:
            await session.execute(text(statement), bind_arguments={"service": BOTH[0]})
            await session.commit()

    asyncio.run(work())


def test_rules_that_are_well(shell: Shell) -> None:
    """All are told of, and which of them nobody carries out."""
    assert rules(shell) == (0, dict.fromkeys(("letters", "stamps", "visits"), ("new", None, None)))
    shell("sync", "backfill", "stamps")
    account(shell, "letters", state="waiting", last_sync_at=time.time(), lag_seconds=0.1)
    account(shell, "stamps", state="streaming", last_sync_at=time.time(), lag_seconds=59.0)
    assert shell.rows("sync", "pause", "visits")
    assert rules(shell) == (
        0, {"letters": ("waiting", None, None), "stamps": ("streaming", None, None), "visits": ("paused", None, None)}
    )  # fmt: skip
    shown = shell.rows("doctor")
    lines = [[word.strip() for word in line.split("|")] for line in shown.splitlines()]
    assert ["rule", "from", "to", "strategy", "state", "lag", "log not read", "dead letters"] in lines
    office, archive = BOTH
    row = ["stamps", f"{office}.SoldStamp", f"{archive}.ListedStamp", "cdc", "streaming", "59.0 s"]
    assert row in [line[:6] for line in lines]
    assert "note: the sync rules visits are paused: fedorm sync resume\n" in shown
    assert "nobody carries out" not in shown
    kept = r"\nstamps \(perhaps as wanted\): PostgreSQL keeps its log for it until it is read \([\d,]+ bytes now\)"
    assert re.search(kept, shown)


def test_rules_that_are_not_well(shell: Shell) -> None:
    """Each with what is wrong and what to do, without a password; the exit code says so."""
    write(shell, SentLetter(id=1, text="never"))
    shell("sync", "backfill", "letters")
    url = shell.urls["sync_cli_archive"]
    account(shell, "stamps", state="failed", last_error=f"FeedLostError: {url}: the log is gone")
    account(shell, "visits", state="following", last_sync_at=time.time(), lag_seconds=75.4)
    code, found = rules(shell)
    assert (code, found["letters"], found["visits"]) == (
        1,
        ("stopped", "1 row(s) could not be synced", "see  fedorm sync dead-letters list letters"),
        ("following", "its target is 75 s behind", "see whether its services are slow, and what its process logs"),
    )
    state, error, advice = found["stamps"]
    assert (state, "the log is gone" in error, "fedorm sync backfill stamps" in advice) == ("failed", True, True)
    shown = shell("doctor")
    assert "\nvisits: its target is 75 s behind\n  what to do: see whether" in shown.stdout
    assert "note: nobody carries out the sync rules letters: let  fedorm sync run  do so\n" in shown.stdout
    account(shell, "visits", state="following", last_sync_at=time.time() - 3600, lag_seconds=75.4)
    account(shell, "letters", state="waiting", last_sync_at=time.time() - 3600)
    write(shell, SentLetter(id=1, text="hello"))
    shell.rows("sync", "dead-letters", "drop", "letters", "--all")
    code, found = rules(shell)
    assert found["visits"] == ("following", None, None)
    assert re.fullmatch(r"it was last synced 36\d\d s ago, and should be every 0.1 s", found["letters"][1])


def test_a_server_that_is_not_set_up(shell: Shell) -> None:
    """What it lacks is told, with what to run; the other rules are well. No other command opens the federation then."""
    run_at_office(shell, "ALTER TABLE sold_stamps REPLICA IDENTITY NOTHING")
    code, found = rules(shell)
    state, error, advice = found["stamps"]
    assert (code, state, "sold_stamps has no replica identity" in error) == (1, "new", True)
    assert advice == ("run  ALTER TABLE sold_stamps REPLICA IDENTITY DEFAULT;  until then the federation does not open")
    assert f"{error}: {advice.partition(';')[0]}" in shell.refusal("sync", "run", code=2)
    assert not error.startswith("sync rule")
    assert [found[name][1] for name in ("letters", "visits")] == [None, None]
    run_at_office(shell, "ALTER TABLE sold_stamps REPLICA IDENTITY DEFAULT")
    assert rules(shell)[0] == 0


def test_what_lags(shell: Shell) -> None:
    """Bytes of a log that were not read, a log that is gone, and events that nobody hands on."""
    shell("sync", "backfill", "stamps")
    write(shell, SoldStamp(id=1, worth=55), PaidVisit(id=1, by="Ada"))
    run_at_office(shell, "UPDATE fedorm_outbox SET at = at - interval '1 hour'")
    done = shell("doctor", "--json")
    found = {one.get("rule") or one["service"]: one for one in listed(done.stdout)}
    (waiting,) = found[BOTH[0]]["findings"]
    assert re.fullmatch(r"1 event\(s\) of its outbox wait, the oldest for 36\d\d s", waiting["problem"])
    assert (done.exit_code, waiting["about"], "fedorm outbox run" in waiting["mend"]) == (1, "lag", True)
    assert (found["stamps"]["lag_bytes"] > 0, found["stamps"]["error"]) == (True, None)
    run_at_office(
        shell,
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
    )
    _, error, advice = rules(shell)[1]["stamps"]
    assert "there is no replication slot fedorm_" in error
    assert advice == "run  fedorm sync backfill stamps"


def test_a_service_that_is_down(shell: Shell) -> None:
    """Its rules are not known, and the service's own line says why."""
    (shell.folder / "ill").mkdir()
    away = {"sync_cli_archive": f"postgresql+asyncpg://bob:hidden@127.0.0.1:{free_port()}/x"}
    shell.config = write_settings(shell.folder / "ill", shell.urls | away)
    down = ("unknown", "service sync_cli_archive is down", "see there")
    assert rules(shell) == (1, dict.fromkeys(("letters", "stamps", "visits"), down))
    assert "hidden" not in shell("doctor").output


def test_rules_that_cannot_be(shell: Shell, tmp_path: Path) -> None:
    """One that is declared wrongly hides the others."""
    shell.config = write_settings(tmp_path, {name: f"sqlite+aiosqlite:///{tmp_path / name}.db" for name in BOTH})
    code, found = rules(shell)
    assert (code, list(found)) == (1, ["(all)"])
    state, error, advice = found["(all)"]
    assert (state, "has no log of changes" in error) == ("invalid", True)
    assert advice == "correct it where the models are declared"
