# Each target creates .venv and installs what it needs; PIP_ARGS passes, say, a package index.
# The newest of these that runs: a name may be there and still not start an interpreter.
PYTHON ?= $(firstword $(foreach each,python3.13 python3.12 python3.11,\
  $(shell $(each) -c 'import venv' 2>/dev/null && echo $(each))))
VENV ?= .venv
BIN := $(VENV)/bin
PIP_ARGS ?=
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
FAST := not slow and not campaign and not live_earth_engine
VERSION := -c 'import sys; print(*sys.version_info[:2])'
SAME_PYTHON = test "$$($(BIN)/python $(VERSION))" = "$$($(PYTHON) $(VERSION))"

.DEFAULT_GOAL := help
.PHONY: help setup lint format test test-slow test-lowest campaign demo demo-real bench docs wheels offline-base compose-offline-test clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP)  ## Create .venv and install everything, with the tested versions

$(STAMP): pyproject.toml emulator/pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'no Python 3.11, 3.12 or 3.13 runs here: install one, or give PYTHON=...' >&2; exit 2; }
	@echo 'Installing into $(VENV): some minutes, some 3 GB'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(SAME_PYTHON) || { echo '$(VENV) has another Python than $(PYTHON): make clean first, or give VENV=...' >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ./emulator -e '.[dev]'
	$(BIN)/python -m pip check
	touch $@

lint: $(STAMP)  ## ruff, mypy --strict, declared dependencies, workflows, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry .
	cd emulator && ../$(BIN)/deptry .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/idea.yml
	$(PYTEST) -q tests/test_import_direction.py

format: $(STAMP)  ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(STAMP)  ## The fast suite: five minutes at most
	$(PYTEST) -m "$(FAST)"

test-slow: $(STAMP)  ## Short campaigns: 25 minutes at most
	$(PYTEST) -m slow

test-lowest:  ## The fast suite on the lowest versions that pyproject.toml allows
	test -x $(VENV)-lowest/bin/python || python3.11 -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints-lowest.txt -e ./emulator -e '.[build,emulator,report,store,train]' pytest hypothesis rasterstats
	$(VENV)-lowest/bin/python -m pytest -m "$(FAST)" $(LOWEST_TESTS)

campaign: $(STAMP)  ## Campaigns at full count
	HYPOTHESIS_PROFILE=campaign $(PYTEST) -m campaign

bench: $(STAMP)  ## Every benchmark, in short form, into docs/performance.md
	$(BIN)/python -m benchmarks $(BENCHMARKS)

demo: $(STAMP)  ## The whole chain on simulated pixels, without credentials: minutes
	$(BIN)/softcon demo --out demo-run

demo-real: $(STAMP)  ## The same on real pixels: make demo-real DATA=folder
	$(BIN)/softcon demo --real "$(DATA)" --out demo-real-run

docs: $(STAMP)  ## The site of the documents, to build/site
	$(BIN)/python -m docs.make_reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html; with search: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site"

wheels: $(STAMP)  ## For images in closed networks: everything to docker/wheels
	$(BIN)/python -m pip wheel --quiet $(PIP_ARGS) -c constraints.txt -w docker/wheels ./emulator '.[$(IMAGE_EXTRAS)]' $(DEBIAN_ALSO)
	rm -f docker/wheels/softcon_cube-* docker/wheels/earth_engine_emulator-*

offline-base:  ## For images in closed networks: a Debian base by debootstrap (as root)
	debootstrap --variant=minbase --include=python3,python3-venv,postgresql,ca-certificates bookworm $(BASE_FOLDER)
	tar -C $(BASE_FOLDER) -c --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
	  --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' . \
	  | docker import - debian:bookworm-softcon
	rm -rf $(BASE_FOLDER)

compose-offline-test:  ## Bring the compose stack up from nothing, without a registry, and try it
	docker/try_offline.sh

clean:  ## Remove the environment and all caches
	rm -rf $(VENV) $(VENV)-lowest .pytest_cache emulator/.pytest_cache .mypy_cache .ruff_cache .hypothesis build emulator/build *.egg-info emulator/*.egg-info

DATA ?= ../shared/data
IMAGE_EXTRAS := build,emulator,flows,report,store
BASE_FOLDER := build/debian
# To build the project itself; and what Debian's Python 3.11.2 needs and later ones do not.
DEBIAN_ALSO := 'setuptools>=77' async-timeout
BENCHMARKS ?=
# What reads, writes and computes; the rest tests flows and pages, whose bounds are the tested ones.
LOWEST_TESTS := tests/storage_schema tests/groundwork tests/pipeline tests/training
