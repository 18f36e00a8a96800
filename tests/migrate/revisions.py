"""Revisions of Alembic's that tests write by hand."""

from __future__ import annotations

from pathlib import Path

_TEXT = '''
import pathlib, time
import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {down!r}

def hold(name):
    """Tell the test that this was reached, and wait to be killed, or to be let go on."""
    here = pathlib.Path({folder!r})
    if (here / "hold").exists():
        (here / name).touch()
        while (here / "hold").exists():
            time.sleep(0.02)

def table(name):
    op.create_table(name, sa.Column("id", sa.Integer, primary_key=True, autoincrement=False))

def row(name, id):
    op.execute(sa.table(name, sa.column("id", sa.Integer)).insert().values(id=id))

def upgrade():
    {up}

def downgrade():
    {down_again}
'''


def write(
    folder: Path, service: str, revision: str, down: str | None, *up: str, down_again: tuple[str, ...] = ("pass",)
) -> Path:
    """Write a revision below ``folder / "migrations"``."""
    text = _TEXT.format(
        revision=revision,
        down=down,
        folder=str(folder),
        up="\n    ".join(up),
        down_again="\n    ".join(down_again),
    )
    path = folder / "migrations" / service / "versions" / f"{revision}.py"
    path.write_text(text)
    return path
