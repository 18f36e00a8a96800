"""What has to hold for every framework's server after the load."""

from __future__ import annotations

from sqlalchemy import select

from examples.web.models import Loan, Reader
from fedorm import Federation
from tests.integrations.serving import CLIENTS, CUT, ROUNDS, enrol_many, watched


async def hold_under_load(url: str, services: dict[str, str], enrol: str = "readers", card: str = "readers") -> None:
    """Ask with fifty clients; every reader has its book, none of a refused one is left, no session was shared."""
    refused = CLIENTS * ROUNDS // 4
    enrolled = CLIENTS * ROUNDS - refused
    answers = await enrol_many(url, enrol, card)
    assert answers == {
        ("post", 201): enrolled,
        ("post", 409): refused,
        ("get", 200): enrolled,
        ("get", 404): refused,
    }
    seen = await watched(url)
    assert seen["shared"] == []
    assert seen["in_use"] == 0
    assert isinstance(seen["sessions"], int)
    assert seen["sessions"] > 2 * CLIENTS * ROUNDS
    async with Federation(services) as fed, fed.session() as session:
        readers = set(await session.scalars(select(Reader.id)))
        borrowers = set(await session.scalars(select(Loan.reader_id)))
    assert readers == borrowers
    numbers = range(CLIENTS * ROUNDS)
    assert {reader for reader in readers if reader < CUT} == {0} | {1 + n for n in numbers if n % ROUNDS % 4 != 3}
