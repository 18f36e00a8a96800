"""``fedorm saga``: a runner as a process of its own, and what is to be seen and done about sagas."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from fedorm import Federation
from fedorm.sagas import PlannedStep, SagaState, State
from fedorm.testing.servers.processes import free_port
from tests.cli.conftest import Shell, write_settings
from tests.cli.errands import Errand

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(fresh_database: Callable[[str], str], tmp_path: Path) -> Shell:
    urls = {"saga_cli": fresh_database("postgresql")}

    async def make() -> None:
        async with Federation(urls) as fed:
            await fed.create_all()

    asyncio.run(make())
    return Shell(tmp_path, write_settings(tmp_path, urls), urls)


def leave(shell: Shell, id: str, *steps: str, led: bool = False, age: float = 5.0, **values: Any) -> None:
    """Leave a saga as a process does that has ended, or, ``led``, is at it."""
    plan = tuple(PlannedStep(one, f"errands.{one}", "saga_cli", {"id": id}) for one in steps)
    begun = {"state": State.RUNNING, "begun_at": time.time() - age} | values
    saga = SagaState("saga_cli", "errand", id, steps=plan, **begun)

    async def write() -> None:
        async with Federation(shell.urls) as fed:
            states = fed.sagas.states_for("saga_cli", plan, lease=60)
            await states.begin(saga, "somebody")
            if not led:
                await states.release(saga, "somebody")

    asyncio.run(write())


def kept(shell: Shell) -> tuple[dict[str, State], list[str]]:
    """Return the state of each saga, and what errands there are."""

    async def read() -> tuple[dict[str, State], list[str]]:
        async with Federation(shell.urls) as fed, fed.session() as session:
            found = [await fed.sagas.get("errand", id) for id in ("a", "b", "c", "d")]
            errands = await session.scalars(select(Errand.id).order_by(Errand.id))
            return {one.id: one.state for one in found if one is not None}, list(errands)

    return asyncio.run(read())


def listed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


STEPS = ("--models", "tests.cli.errands", "saga", "run")


def command(shell: Shell, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "fedorm", "--config", str(shell.config), *arguments]


@pytest.fixture
def once(shell: Shell) -> Run:
    """Run a command to its end, in a process that knows only the steps of the modules it is told."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONWARNINGS": "error::ResourceWarning"}
        return subprocess.run(
            command(shell, *arguments),
            cwd=shell.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@contextmanager
def running(shell: Shell, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command for the block, and kill it if it has not ended."""
    with subprocess.Popen(
        command(shell, *arguments),
        cwd=shell.folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(stream: Any) -> str:
    text: str = stream.readline()
    return text


KNOWN = "ending sagas with the steps: errands.fetch, errands.keep, errands.refuse, errands.wait\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_runner_ends_after_the_saga_in_hand(shell: Shell, number: signal.Signals) -> None:
    """It ends what was left, also what comes later; told to stop it ends the one it is at, and no other, with 0."""
    leave(shell, "a", "fetch")
    with running(shell, *STEPS, "--every", "0.05") as runner:
        assert line(runner.stderr) == KNOWN
        assert line(runner.stderr) == "saga 'errand' 'a' is done\n"
        leave(shell, "b", "wait", "fetch")
        assert line(runner.stdout) == "waiting b\n"
        leave(shell, "c", "fetch")
        runner.send_signal(number)
        (shell.folder / "go").touch()
        assert runner.wait(20) == 0
        assert runner.stderr is not None
        assert runner.stderr.read() == "saga 'errand' 'b' is done\n"
    assert kept(shell) == (
        {"a": State.DONE, "b": State.DONE, "c": State.RUNNING},
        ["a", "b", "waited for b"],
    )


@pytest.mark.parametrize("how", [(), ("--once",)])
def test_a_saga_that_takes_too_long_is_left_to_another_runner(shell: Shell, once: Run, how: tuple[str, ...]) -> None:
    """At once: no lease has to run out, and nothing of the step it was at is there."""
    leave(shell, "a", "fetch", "wait")
    with running(shell, *STEPS, "--grace", "0", *how) as runner:
        assert line(runner.stderr) == KNOWN
        assert line(runner.stdout) == "waiting a\n"
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(20) == (1 if how else 0)
        assert runner.stdout is not None
        assert runner.stdout.read() == ("0 saga(s); 1 left\n" if how else "")
    assert kept(shell) == ({"a": State.RUNNING}, ["a"])
    (shell.folder / "go").touch()
    assert once(*STEPS, "--once").stdout == "waiting a\n1 saga(s): 1 done; 0 left\n"
    assert kept(shell) == ({"a": State.DONE}, ["a", "waited for a"])


def test_one_pass(shell: Shell, once: Run) -> None:
    """It goes on, or back, leaves alone what somebody is at, and ends with 0."""
    leave(shell, "a", "fetch", age=9)
    leave(shell, "b", "fetch", "refuse", age=8)
    leave(shell, "c", "fetch", led=True)
    done = once(*STEPS, "--once")
    assert (done.returncode, done.stdout) == (0, "2 saga(s): 1 done, 1 compensated; 0 left\n")
    assert done.stderr == (
        f"{KNOWN}saga 'errand' 'a' is done\nsaga 'errand' 'b' is compensated: ValueError: it is closed\n"
    )
    assert kept(shell) == ({"a": State.DONE, "b": State.COMPENSATED, "c": State.RUNNING}, ["a"])
    again = once(*STEPS, "--once")
    assert (again.returncode, again.stdout, again.stderr) == (0, "0 saga(s); 0 left\n", KNOWN)


def test_what_one_pass_cannot_end(shell: Shell, once: Run) -> None:
    """A step that no module declares, and a compensation that fails, are left: it ends with 1."""
    leave(shell, "a", "sing", age=9)
    leave(shell, "b", "keep", "refuse")
    done = once(*STEPS, "--once")
    assert (done.returncode, done.stdout) == (1, "1 saga(s): 1 compensating; 2 left\n")
    assert done.stderr == (
        f"{KNOWN}saga 'errand' 'a' waits: steps ['errands.sing'] are not known here\n"
        "saga 'errand' 'b' is compensating: compensation of keep: RuntimeError: it is mine\n"
    )


def test_a_federation_that_is_named(shell: Shell, once: Run) -> None:
    """With ``--app`` neither settings nor models are needed."""
    (shell.folder / "shopping.py").write_text(
        f"from fedorm import Federation\nimport tests.cli.errands\nfed = Federation({shell.urls!r})\n"
    )
    leave(shell, "a", "fetch")
    shell.config = shell.folder / "none.toml"
    done = once("saga", "run", "--once", "--app", "shopping")
    assert (done.returncode, done.stdout) == (0, "1 saga(s): 1 done; 0 left\n"), done.stderr
    assert once("saga", "run", "--app", "shopping:nothing").returncode == 2


def test_sagas_are_counted(shell: Shell, once: Run) -> None:
    """By service and state; with 1 where a compensation has failed."""
    assert shell.rows("saga", "status") == "no sagas\n"
    assert shell.rows("saga", "status", "--format", "json") == ""
    leave(shell, "a", "fetch")
    leave(shell, "b", "fetch", "refuse")
    once(*STEPS, "--once")
    leave(shell, "c", "fetch", led=True)
    assert listed(shell.rows("saga", "status", "--format", "json")) == [
        {"service": "saga_cli", "running": 1, "compensating": 0, "done": 1, "compensated": 1, "failing": 0}
    ]
    leave(shell, "d", "fetch", state=State.COMPENSATING, position=1, failures=3, error="OSError: away")
    shown = shell("saga", "status")
    assert (shown.exit_code, shown.stderr) == (1, "")
    header, _, row = shown.stdout.splitlines()
    words = [[word.strip() for word in one.split("|")] for one in (header, row)]
    assert words == [
        ["service", "running", "compensating", "done", "compensated", "failing"],
        ["saga_cli", "1", "1", "1", "1", "1"],
    ]


def test_unfinished_sagas_are_listed(shell: Shell) -> None:
    """The oldest first, with the step that is next, forward or back, and without what is over or a password."""
    assert shell.rows("saga", "list") == "no sagas\n"
    secret = f"OSError: cannot reach {shell.urls['saga_cli']}\nat all"
    leave(shell, "a", "fetch", "wait", led=True, age=70, position=1)
    leave(
        shell, "b", "fetch", "wait", "refuse", age=60, state=State.COMPENSATING, position=2, failures=4, error=secret
    )  # fmt: skip
    leave(shell, "c", "fetch", state=State.DONE, position=1)
    rows = listed(shell.rows("saga", "list", "--format", "json"))
    ages, errors = [one.pop("age") for one in rows], [one.pop("error") for one in rows]
    assert [ages[0] >= 70, 60 <= ages[1] <= ages[0]] == [True, True]
    common = {"service": "saga_cli", "saga": "errand"}
    assert rows == [
        common | {"id": "a", "state": "running", "step": "wait", "failures": 0, "led": True},
        common | {"id": "b", "state": "compensating", "step": "wait", "failures": 4, "led": False},
    ]
    assert errors[0] is None
    assert errors[1].startswith("OSError: cannot reach postgresql+asyncpg://")
    header, _, *shown = shell.rows("saga", "list").splitlines()
    names = [word.strip() for word in header.split("|")]
    assert names == ["service", "saga", "id", "state", "step", "age", "failures", "led", "error"]
    words = [[word.strip() for word in one.split("|")] for one in shown]
    assert [one[:5] + one[6:8] for one in words] == [
        ["saga_cli", "errand", "a", "running", "wait", "0", "yes"],
        ["saga_cli", "errand", "b", "compensating", "wait", "4", "no"],
    ]


def test_old_sagas_are_forgotten(shell: Shell) -> None:
    """Those that were over long enough ago; what is not over stays."""
    now = time.time()
    leave(shell, "a", "fetch", state=State.DONE, position=1, ended_at=now - 8 * 86400)
    leave(shell, "b", "fetch", state=State.COMPENSATED, ended_at=now - 3600)
    leave(shell, "c", "fetch", age=9 * 86400)
    assert shell.rows("saga", "forget") == "1 saga(s) forgotten\n"
    assert shell.rows("saga", "forget") == "0 saga(s) forgotten\n"
    assert shell.rows("saga", "forget", "--older-than", "inf") == "0 saga(s) forgotten\n"
    assert shell.rows("saga", "forget", "--older-than", "60") == "1 saga(s) forgotten\n"
    assert kept(shell)[0] == {"c": State.RUNNING}


def test_bad_input(shell: Shell, once: Run) -> None:
    """A wrong call ends with 2, and nothing is done."""
    leave(shell, "a", "fetch", state=State.DONE, position=1, ended_at=1.0)
    leave(shell, "b", "fetch")
    for wrong in (
        *(["forget", "--older-than", seconds] for seconds in ("-1", "nan", "soon")),
        *(["run", "--every", seconds] for seconds in ("0", "-1", "nan", "often")),
        *(["run", "--once", "--lease", seconds] for seconds in ("0", "nan")),
        *(["run", "--once", "--grace", seconds] for seconds in ("-1", "nan")),
        ["run", "errands.fetch"],
        ["run", "--app", "tests.cli.errands:Errand"],
        ["run", "--app", "no_such_module"],
        ["list", "--format", "xml"],
        ["status", "saga_cli"],
        ["forget", "a"],
        ["begin"],
        [],
    ):
        assert shell("saga", *wrong).exit_code == 2, wrong
    unknown = once("saga", "run", "--once")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == (
        "fedorm: no steps are known here: name the modules that declare them, with --models or --app\n"
    )
    missing = once("--models", "no_such_steps", "saga", "run")
    assert (missing.returncode, "--models no_such_steps: there is no such module" in missing.stderr) == (2, True)
    assert kept(shell) == ({"a": State.DONE, "b": State.RUNNING}, [])
    shell.config = shell.folder / "none.toml"
    for name in ("run", "status", "list", "forget"):
        assert "there is no file" in shell.refusal("saga", name, code=2)


def test_a_service_that_is_down(shell: Shell) -> None:
    """Each command ends with 1, and names it."""
    (shell.folder / "ill").mkdir()
    away = {"saga_away": f"postgresql+asyncpg://bob:hidden@127.0.0.1:{free_port()}/x"}
    shell.config = write_settings(shell.folder / "ill", shell.urls | away)
    for name in ("run", "status", "list", "forget"):
        told = shell.refusal("saga", name)
        assert ("'saga_away'" in told, "hidden" in told) == (True, False)
