"""Steps of sagas in a module of their own, as a user's are; some wait for a file in the working directory."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import AsyncFederatedSession, FederatedBase
from fedorm.sagas import saga_step


class Errand(FederatedBase):
    __service__, __tablename__ = "saga_cli", "errands"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)


@saga_step(service="saga_cli", name="errands.fetch")
async def fetch(session: AsyncFederatedSession, *, id: str) -> None:
    session.add(Errand(id=id))


@fetch.compensation
async def bring_back(session: AsyncFederatedSession, *, id: str) -> None:
    await session.delete(await session.get_one(Errand, id))


@saga_step(service="saga_cli", name="errands.wait")
async def wait(session: AsyncFederatedSession, *, id: str) -> None:
    print("waiting", id, flush=True)
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    session.add(Errand(id=f"waited for {id}"))


@saga_step(service="saga_cli", name="errands.keep")
async def keep(session: AsyncFederatedSession, *, id: str) -> None:
    session.add(Errand(id=id))


@keep.compensation
async def give_away(session: AsyncFederatedSession, *, id: str) -> None:
    raise RuntimeError("it is mine")


@saga_step(service="saga_cli", name="errands.refuse")
async def refuse(session: AsyncFederatedSession, *, id: str) -> None:
    raise ValueError("it is\nclosed")
