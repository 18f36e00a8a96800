#!/bin/sh
# Set up what the flights example needs, from pip alone, and run it on embedded servers. Needs Python 3.11 or later.
#   scripts/demo.sh [options of python -m examples.flights]
#   PYTHON=python3.12 VENV=/tmp/venv scripts/demo.sh
set -eu
cd "$(dirname "$0")/.."
. scripts/venv.sh
make_venv "$VENV" '.[embedded]' --group demo --constraint scripts/constraints.txt
exec "$VENV/bin/python" -m examples.flights "$@"
