# Each target creates .venv and installs what it needs; PIP_ARGS passes, say, a package index.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PIP_ARGS ?=
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help setup lint format test test-slow campaign bench clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP)  ## Create .venv and install everything, with the tested versions

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip check
	touch $@

lint: $(STAMP)  ## ruff, mypy --strict, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -q tests/test_import_direction.py

format: $(STAMP)  ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(STAMP)  ## The fast suite: five minutes at most
	$(PYTEST) -m "not slow and not campaign and not live_earth_engine"

test-slow: $(STAMP)  ## Short campaigns: 25 minutes at most
	$(PYTEST) -m slow

campaign: $(STAMP)  ## Campaigns at full count
	$(PYTEST) -m campaign

bench: $(STAMP)  ## Every benchmark, in short form
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --short || exit 1; done

clean:  ## Remove the environment and all caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

BENCHMARKS := $(filter-out __init__ training_cube,$(basename $(notdir $(wildcard benchmarks/*.py))))
