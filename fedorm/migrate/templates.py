"""The files that a new history begins with."""

from __future__ import annotations

INI = """\
# Alembic's settings for the service "{service}"; where its database is, the federation's own settings say.
#   fedorm migrate --service {service} upgrade          or, by Alembic itself:
#   FEDORM_CONFIG=fedorm.toml alembic -c {directory}/alembic.ini upgrade head
# FEDORM_MODELS names the modules with the models, where the settings do not.

[alembic]
script_location = %(here)s
service = {service}
prepend_sys_path = .
path_separator = os
file_template = %%(year)d%%(month).2d%%(day).2d_%%(rev)s_%%(slug)s
"""

ENV = '''\
"""Alembic's way into the history of the service "{service}"."""

from fedorm.migrate.environment import run

run()
'''

SCRIPT = '''\
"""${message}

Revision: ${up_revision}
Follows: ${down_revision | comma,n}
Made: ${create_date}
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision: str = ${repr(up_revision)}
down_revision: str | Sequence[str] | None = ${repr(down_revision)}
branch_labels: str | Sequence[str] | None = ${repr(branch_labels)}
depends_on: str | Sequence[str] | None = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
'''

DOCUMENTS_SETTINGS = """\
# Where the migrations of the service "{service}" are, files of Beanie's, carried out in the order of their names:
#   fedorm migrate upgrade --service {service}
path = "{path}"
"""

DOCUMENTS = '''\
"""{message}"""

from beanie import free_fall_migration, iterative_migration  # noqa: F401 - for what changes documents

from fedorm.migrate.collections import schema_migration
from fedorm.stores.mongodb_schema import Collections


class Forward:
    @schema_migration()
    async def change(self, db: Collections) -> None:
{forward}


class Backward:
    @schema_migration()
    async def change(self, db: Collections) -> None:
{backward}
'''

INDICES_SETTINGS = """\
# Where the migrations of the service "{service}" are, carried out in the order of their names:
#   fedorm migrate upgrade --service {service}
path = "{path}"
"""

INDICES = '''\
"""{message}"""

from fedorm.stores.elasticsearch_schema import Indices


class Forward:
    async def change(self, es: Indices) -> None:
{forward}


class Backward:
    async def change(self, es: Indices) -> None:
{backward}
'''
