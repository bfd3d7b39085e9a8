# Every target does its own set-up: the virtual environment, the locked packages, Kafka's jars.

PYTHON := $(or $(shell command -v python3.11),$(shell command -v python3))
BIN := .venv/bin
# To make, `--keep` is its own `--keep-going`, which says nothing to one target.
KEEP = $(if $(findstring k,$(firstword -$(MAKEFLAGS))),--keep)
.DEFAULT_GOAL := help
.PHONY: help install demo up test test-tools soak check bench bench-notify bench-windows bench-closings bench-lag bench-insight schemas lock clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .venv/installed ## Everything into .venv, so that .venv/bin/sluice runs

demo: .venv/installed ## Live through two weeks that reach every outcome (under two minutes after set-up; `make demo --keep` leaves it up)
	@$(BIN)/sluice demo $(KEEP)

up: .venv/installed ## Everything, with the console, until Ctrl-C
	@$(BIN)/sluice up

test: .venv/installed ## All tests that need nothing outside this folder (under ten minutes)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not tools and not soak"

test-tools: .venv/installed ## Checks that need system programs: kcat, promtool, prometheus, chromium
	@$(BIN)/python -m pytest -m tools

soak: .venv/installed ## Tests that take minutes: notifiers, and a month of windows, under 25 kills
	@$(BIN)/python -m pytest -m soak

check: .venv/packages ## Format, lint, types, layers, generated files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m schemas.generate --check

bench: .venv/installed ## Measure the service against the bare floor (about twenty minutes)
	@$(BIN)/python -m benchmarks

bench-notify: .venv/installed ## Measure broadcasts, the delay of urgent notices, and mails against the bare floor (some minutes)
	@$(BIN)/python -m benchmarks.notices
	@$(BIN)/python -m benchmarks.mail

bench-windows: .venv/installed ## Measure the gate with windows in force, and the release of what one held (some minutes)
	@$(BIN)/python -m benchmarks.windows

bench-closings: .venv/installed ## Measure the clearance of 100,000 wallets against the bare cost of its payouts (some minutes)
	@$(BIN)/python -m benchmarks.closings

bench-lag: .venv/installed ## Measure how soon the lag of 1,000 groups is seen, and what the exporter weighs (some minutes)
	@$(BIN)/python -m benchmarks.lag

bench-insight: .venv/installed ## Measure how many events a second insight counts, against reading and decoding them alone (some minutes)
	@$(BIN)/python -m benchmarks.insight

schemas: .venv/packages ## Write the generated JSON Schema files and the AsyncAPI document
	@$(BIN)/python -m schemas.generate

lock: ## Pin every package with its hashes (needs uv)
	uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock
	uv pip compile -q pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements-dev.lock

clean: ## Remove what the targets above made here
	rm -rf .venv .sluice .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

.venv/packages: requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, as python3.11 or python3."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(f"Python 3.11 or later is needed; {sys.executable} is {sys.version.split()[0]}." if sys.version_info < (3, 11) else 0)'
	@echo "Making .venv with $(PYTHON) ..."
	@$(PYTHON) -m venv .venv
	@echo "Installing about 100 locked packages, 250 MB: a minute or two ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/installed: .venv/packages local/jars.py local/kafka_jars.sha256 local/script_jars.sha256
	@$(BIN)/python -m local.jars
	@touch $@
