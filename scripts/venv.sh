# Sourced by the other scripts: make_venv FOLDER PIP-ARGUMENTS... installs fedorm, editable, once for each such list.
VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3}

make_venv() {
    venv=$1
    shift
    "$PYTHON" - <<'CHECK'
import sys
if sys.version_info < (3, 11):
    sys.exit(f"fedorm needs Python 3.11 or later, and this is {sys.version.split()[0]}: set PYTHON=python3.12, say")
CHECK
    if [ ! -x "$venv/bin/pip" ]; then
        if ! "$PYTHON" -m venv "$venv" && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
            "$PYTHON" -m venv "$venv"
        fi
        if [ ! -x "$venv/bin/pip" ]; then
            echo "$PYTHON -m venv does not work; on Debian it comes with: apt-get install python3-venv" >&2
            return 1
        fi
    fi
    installed=$venv/.installed-$({ printf '%s ' "$@"; cat pyproject.toml scripts/constraints.txt; } | cksum | tr ' ' -)
    if [ ! -e "$installed" ]; then
        echo "Installing fedorm into $venv ..."
        "$venv/bin/pip" install --quiet --disable-pip-version-check --upgrade 'pip>=25.1,<27'
        "$venv/bin/pip" install --quiet --disable-pip-version-check --editable "$@"
        touch "$installed"
    fi
}
