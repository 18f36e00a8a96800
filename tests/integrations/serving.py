"""Servers of applications as processes of their own, and fifty clients that ask all they can."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

CLIENTS = 50
ROUNDS = 4
CUT = 10_000
"""Readers from this number on are those of clients who have hung up."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], port: int, log: Path, **environment: str) -> Iterator[str]:
    """Run a server until the block ends, then ask it to stop, which it has to do by itself and without an error."""
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env={**os.environ, **environment}, stdout=written, stderr=written
        )
        try:
            _wait_until_it_answers(process, port, log)
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
        finally:
            process.kill()
            process.wait()
    assert code in (0, -signal.SIGTERM), log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"the server does not answer: {log.read_text()}")


async def enrol_many(url: str, enrol: str, card: str) -> Counter[tuple[str, int]]:
    """Let clients enrol readers, every fourth of whom asks for a book that is lent, and look at their cards."""
    answers: Counter[tuple[str, int]] = Counter()
    async with httpx2.AsyncClient(base_url=url, timeout=60, limits=httpx2.Limits(max_connections=CLIENTS)) as client:
        (await client.post(f"/{enrol}/0", params={"name": "first", "book": "lent"})).raise_for_status()

        async def ask(number: int) -> None:
            for turn in range(ROUNDS):
                reader = 1 + number * ROUNDS + turn
                book = "lent" if turn % 4 == 3 else f"book {reader}"
                posted = await client.post(f"/{enrol}/{reader}", params={"name": f"reader {reader}", "book": book})
                seen = await client.get(f"/{card}/{reader}")
                answers["post", posted.status_code] += 1
                answers["get", seen.status_code] += 1
                if seen.status_code == 200:
                    assert seen.json() == {"name": f"reader {reader}", "books": [book]}
                if turn % 2:
                    await _hang_up(url, f"{enrol}/{CUT + reader}", CUT + reader)

        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(ask(number))
    return answers


async def _hang_up(url: str, path: str, reader: int) -> None:
    """Ask, and do not wait for the answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    asked = f"POST /{path}?name=gone&book=gone+{reader} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
    writer.write(asked.encode())
    await writer.drain()
    writer.close()


async def watched(url: str) -> dict[str, object]:
    """Return what the server has seen, as soon as no request is at work."""
    async with httpx2.AsyncClient(base_url=url) as client:
        for _ in range(100):
            seen: dict[str, object] = (await client.get("/watched")).json()
            if seen["in_use"] == 0:
                break
            await asyncio.sleep(0.05)
    return seen
