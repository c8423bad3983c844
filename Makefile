# Needs Python 3.10 or later, git and make; everything else is installed into .venv* here.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEVELOPMENT := $(VENV)/.complete
# Named after the version, so that another PYTHON than the last one builds the environment anew.
CHOSEN := $(VENV)/.python-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
# Release 1.1.0 in an environment of its own, for the tests and benchmarks that compare with it.
PEER := .venv-1.1.0/.complete
# Other languages, for the examples of docs/reading.md.
READERS := .readers
ARGS ?=
CHAOS_SECONDS ?= 600
SOAK_SECONDS ?= 1800
# Most tests wait more than they work.
WORKERS ?= 4
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile
# What is tested with SQLite, too, where a section names no storage.
ON_BOTH := $(addprefix tests/e2e/test_,ttl.py owners.py wait.py events.py publishing.py both_servers.py storm.py)
# What is tested with etcd, too: of the contract, which `make test-etcd` tests as a whole, what tells most.
ON_ETCD := $(addprefix tests/e2e/test_,owners.py both_servers.py events.py publishing.py)
ALL_ON_ETCD := $(sort $(ON_BOTH) $(ON_ETCD) $(addprefix tests/e2e/test_,leader.py http.py stream.py client.py watch.py lock.py \
  commands.py timed_commands.py))

# What reaches all of core and engines, in a few minutes. What a module imports is otherwise where it is measured.
COVERED := tests/unit tests/property --ignore=tests/unit/test_imports.py \
  $(addprefix tests/e2e/test_,sqlite.py shared.py shared_hostile.py shared_trouble.py)
# The state machine, in fewer examples than usual; where mutants are tried, in still fewer.
COVERED_EXAMPLES := 50
MUTANT_EXAMPLES := 20

.PHONY: help demo test test-etcd chaos soak lint format types coverage mutants docs bench matrix release image screenshots clean

help:
	@echo 'make demo      a supervisord with the cache on loopback, shown step by step (ONCE=1: and ended)'
	@echo 'make test      all tests (ARGS=... goes to pytest)'
	@echo 'make chaos     a shared cache for ten minutes in which all goes wrong (CHAOS_SECONDS, CHAOS_SEED; needs root)'
	@echo 'make soak      everything at once for half an hour (SOAK_SECONDS, SOAK_SEED)'
	@echo 'make test-etcd  the contract with etcd as the storage (ARGS=... goes to pytest)'
	@echo 'make lint      ruff: rules and format'
	@echo 'make types     mypy --strict'
	@echo 'make coverage  which branches tests reach; fails under 100 % of core and engines (ARGS=... are other tests)'
	@echo 'make mutants   which changes of core no test notices: CONTRIBUTING.md (ARGS=... are names, such as supervisor_cache.core.keys*)'
	@echo 'make docs      the documentation, into docs/_build/html/index.html'
	@echo 'make bench     figures, as ratios, into benchmarks/RESULTS.md'
	@echo 'make matrix    the wheel under each installed Python and Supervisor 4.2.0, 4.2.5, 4.3.0'
	@echo 'make release   sdist and wheel, built twice and equal, with a bill of materials, into dist/'
	@echo 'make image     the wheel in an image of Debian with nothing else (needs root and debootstrap)'
	@echo 'make screenshots  the pictures of the page in docs/'
	@echo 'make clean     take away all that the others made'

$(CHOSEN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed; name it: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(DEVELOPMENT): pyproject.toml $(CHOSEN)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

$(PEER):
	$(PYTHON) -m venv .venv-1.1.0
	.venv-1.1.0/bin/python -m pip install --quiet 'setuptools<81' wheel supervisor==4.3.0
	.venv-1.1.0/bin/python -m pip install --quiet --no-build-isolation supervisor_cache==1.1.0
	@touch $@

$(READERS): scripts/programs.py
	@$(PYTHON) scripts/programs.py test
	@touch $@

demo: $(DEVELOPMENT)
	@$(BIN)/python demo/demo.py $(if $(ONCE),--once)

test: $(DEVELOPMENT) $(PEER) $(READERS)
ifeq ($(ARGS),)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)
	TEST_STORAGE=sqlite $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ON_BOTH)
	TEST_STORAGE=etcd $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ON_ETCD)
else
	$(BIN)/python -m pytest $(ARGS)
endif

chaos: $(DEVELOPMENT) $(READERS)
	CHAOS_SECONDS=$(CHAOS_SECONDS) $(BIN)/python -m pytest tests/e2e/test_chaos.py $(ARGS)

soak: $(DEVELOPMENT)
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest tests/e2e/test_soak.py $(ARGS)

test-etcd: $(DEVELOPMENT) $(READERS)
	TEST_STORAGE=etcd $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ALL_ON_ETCD) $(ARGS)

lint: $(DEVELOPMENT)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(DEVELOPMENT)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(DEVELOPMENT)
	$(BIN)/mypy

docs: $(DEVELOPMENT)
	$(BIN)/python -m sphinx -W --keep-going -n -q docs docs/_build/html

coverage: $(DEVELOPMENT) $(PEER) $(READERS)
	$(BIN)/python -m pip install --quiet --group coverage
	rm -f .coverage .coverage.*
	MACHINE_EXAMPLES=$(COVERED_EXAMPLES) $(BIN)/coverage run -m pytest $(SIDE_BY_SIDE) $(or $(ARGS),$(COVERED))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
ifeq ($(ARGS),)
	$(BIN)/coverage report --include='*/core/*,*/engines/*' --fail-under=100
endif

mutants: $(DEVELOPMENT)
	$(BIN)/python -m pip install --quiet --group mutation
	MACHINE_EXAMPLES=$(MUTANT_EXAMPLES) $(BIN)/mutmut run --max-children $(WORKERS) $(ARGS)
	$(BIN)/mutmut results

bench: $(DEVELOPMENT) $(PEER)
	@$(PYTHON) scripts/programs.py bench
	-@$(BIN)/python -m pip install --quiet --group bench
	@# As pip leaves it: where Python may write no bytecode, each start would be measured with compiling.
	@$(BIN)/python -m compileall -q src
	$(BIN)/python -m benchmarks $(ARGS)

matrix: $(DEVELOPMENT) $(PEER)
	$(BIN)/python -m pip install --quiet --group matrix
	$(BIN)/python scripts/matrix.py $(ARGS)

release: $(DEVELOPMENT)
	@$(BIN)/python scripts/release.py

image: $(DEVELOPMENT)
	@$(PYTHON) scripts/programs.py image
	@$(BIN)/python scripts/image.py

screenshots: $(DEVELOPMENT)
	@$(PYTHON) scripts/programs.py test
	PYTHONPATH=. $(BIN)/python scripts/screenshots.py

clean:
	rm -rf .venv .venv-1.1.0 .node .readers .tox build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache \
	  docs/_build .coverage .coverage.* mutants
