#!/bin/sh
# Install what the tests need: servers from Debian's packages (as root) and a virtual environment with every extra.
set -eu
cd "$(dirname "$0")/.."

# package and the program by which one sees that it is there
servers='postgresql-15:/usr/lib/postgresql/*/bin/postgres mariadb-server:/usr/sbin/mariadbd clickhouse-server:/usr/sbin/clickhouse-server redis-server:/usr/bin/redis-server nats-server:/usr/sbin/nats-server rabbitmq-server:/usr/lib/rabbitmq/bin/rabbitmq-server-wait'
missing=''
for server in $servers; do
    # shellcheck disable=SC2086 # the pattern is meant to match
    ls ${server#*:} >/dev/null 2>&1 || missing="$missing ${server%%:*}"
done
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing$missing ..."
    # The packages would start their own servers; the tests start theirs, on private ports.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    for package in $missing; do
        case $package in
            mariadb-server) pinned='mariadb-server=1:10.11.*' ;;
            clickhouse-server) pinned='clickhouse-server=18.16.*' ;;
            redis-server) pinned='redis-server=5:7.0.*' ;;
            nats-server) pinned='nats-server=2.9.*' ;;
            rabbitmq-server) pinned='rabbitmq-server=3.10.*' ;;
            *) pinned=$package ;; # its name holds its version
        esac
        apt-get install -y -qq --no-install-recommends "$pinned" >/dev/null
    done
elif [ -n "$missing" ]; then
    echo "Without root these servers cannot be installed, and tests that need them are skipped:$missing" >&2
fi

. scripts/venv.sh
make_venv "$VENV" '.[all,embedded]' --group "${DEPENDENCY_GROUP:-dev}" --constraint scripts/constraints.txt
