# Needs Python 3.10 or later, git and make; everything else is installed into .venv* here.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEVELOPMENT := $(VENV)/.complete
# Named after the version, so that another PYTHON than the last one builds the environment anew.
CHOSEN := $(VENV)/.python-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
# Release 1.1.0 in an environment of its own, for the tests and benchmarks that compare with it.
PEER := .venv-1.1.0/.complete
ARGS ?=

.PHONY: help demo test lint format types bench matrix clean

help:
	@echo 'make demo      a supervisord with the cache on loopback, shown step by step (ONCE=1: and ended)'
	@echo 'make test      all tests (ARGS=... goes to pytest)'
	@echo 'make lint      ruff: rules and format'
	@echo 'make types     mypy --strict'
	@echo 'make bench     figures, as ratios, into benchmarks/RESULTS.md'
	@echo 'make matrix    the wheel under each installed Python and Supervisor 4.2.0, 4.2.5, 4.3.0'
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

demo: $(DEVELOPMENT)
	@$(BIN)/python demo/demo.py $(if $(ONCE),--once)

test: $(DEVELOPMENT) $(PEER)
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEVELOPMENT)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(DEVELOPMENT)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(DEVELOPMENT)
	$(BIN)/mypy

bench: $(DEVELOPMENT) $(PEER)
	$(BIN)/python -m benchmarks $(ARGS)

matrix: $(DEVELOPMENT) $(PEER)
	$(BIN)/python -m pip install --quiet --group matrix
	$(BIN)/python scripts/matrix.py $(ARGS)

clean:
	rm -rf .venv .venv-1.1.0 .tox build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
