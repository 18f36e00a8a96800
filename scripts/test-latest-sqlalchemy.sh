#!/bin/sh
# Run the tests on the latest SQLAlchemy, which ClickHouse's driver does not allow yet: all that does not need it.
set -eu
cd "$(dirname "$0")/.."
. scripts/venv.sh
latest=.venv-latest
mkdir -p "$latest"
constraints=$latest/constraints.txt # the same path each time, so that nothing is installed twice
grep -vi '^sqlalchemy=' scripts/constraints.txt >"$constraints"
make_venv "$latest" '.[postgresql,mysql,mongodb,sqlite,query,scanners,cli,redis,elasticsearch,brokers,prometheus,opentelemetry,alembic,sync]' 'sqlalchemy[asyncio]==2.1.9' 'secantusdb==0.7.0b3' --group test \
    --constraint "$constraints"
# Kills, random histories and the documentation are tried once: they are not about SQLAlchemy, and take their time.
"$latest/bin/python" -m pytest -n "${WORKERS:-2}" --dist loadfile -m 'not clickhouse' --ignore tests/test_example_flights.py --ignore tests/test_readme.py \
    --ignore tests/stores/test_clickhouse.py --ignore tests/stores/test_chdb.py --ignore tests/sync/test_crash.py \
    --ignore tests/sync/test_histories.py --ignore tests/twophase/test_crash.py --ignore tests/test_relay_crash.py \
    --ignore tests/docs "$@"
