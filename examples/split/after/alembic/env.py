import os

from alembic import context
from sqlalchemy import create_engine

from fedorm.bookkeeping import own_metadata
from shop.models import Base

config = context.config
services = ["orders"]
target_metadata = [*map(Base.metadata_of, services), own_metadata("orders")]


def url() -> str:
    return config.get_main_option("sqlalchemy.url") or os.environ["SHOP_URL"].replace("+asyncpg", "+psycopg")


if context.is_offline_mode():
    context.configure(url=url(), target_metadata=target_metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url())
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=target_metadata)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()
