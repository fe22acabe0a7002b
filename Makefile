# `make help` lists the targets. Needs: Rust, CPython 3.10-3.13 with headers, gcc, make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= $(CURDIR)/.venv
JOBS ?= 2
BIN := $(VENV)/bin
VENV_PYTHON := $(BIN)/python
# pyo3 is built against the interpreter of the venv, by whichever tool starts cargo.
export PYO3_PYTHON := $(VENV_PYTHON)
PYTEST := $(VENV_PYTHON) -m pytest

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: all
all: lint test demo ## Lints, tests and the demo

# --- environment ---------------------------------------------------------------------------------

REQUIREMENTS := requirements/build.txt requirements/lint.txt requirements/test.txt

.PHONY: venv
venv: $(VENV)/.ready ## Create .venv with the build and test packages

$(VENV)/.ready: $(REQUIREMENTS)
	$(PYTHON) -m venv $(VENV)
	$(VENV_PYTHON) -m pip install -q --disable-pip-version-check \
	    -r requirements/build.txt -r requirements/lint.txt -r requirements/test.txt
	touch $@

# The peers of the benchmarks are not needed to test.
$(VENV)/.ready-bench: $(VENV)/.ready requirements/bench.txt
	$(VENV_PYTHON) -m pip install -q --disable-pip-version-check -r requirements/bench.txt
	touch $@

$(VENV)/.ready-wheels: $(VENV)/.ready requirements/wheels.txt
	$(VENV_PYTHON) -m pip install -q --disable-pip-version-check -r requirements/wheels.txt
	touch $@

.PHONY: develop
develop: venv ## Build the extension module and install it into .venv
	VIRTUAL_ENV=$(VENV) $(BIN)/maturin develop --release --quiet

# --- checks --------------------------------------------------------------------------------------

.PHONY: lint
lint: venv ## Formatting and lints, Rust and Python
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --all-targets --features python -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: test
test: test-rust test-python ## What every change must pass: core and Python package, on both drivers

.PHONY: test-all
test-all: test test-eventlet test-asyncio-suites evtop-test ## The same, Eventlet's and CPython's own suites, and evtop from outside

.PHONY: test-rust
# Some of evtop's look at a real Python with greenlets.
test-rust: export EVTOP_TEST_PYTHON = $(VENV_PYTHON)
test-rust: venv ## Rust tests of the core and of evtop
	if cargo nextest --version >/dev/null 2>&1; \
	then cargo nextest run --workspace --no-fail-fast --retries 1 --no-tests=pass && cargo test --workspace --doc; \
	else cargo test --workspace --no-fail-fast; fi

.PHONY: test-python
# What fails beside others on a busy machine is run once more alone; it counts if it fails again.
test-python: develop ## Python tests, each hub test on epolls and on both drivers
	$(PYTEST) -n $(JOBS) tests/python || $(PYTEST) --last-failed --last-failed-no-failures none tests/python

.PHONY: test-eventlet
test-eventlet: develop ## Eventlet's own test-suite: nothing fails that passes on its own hubs
	$(VENV_PYTHON) tests/suites/eventlet_suite.py --jobs $(JOBS) --reference epolls

.PHONY: test-asyncio-suites
test-asyncio-suites: develop ## CPython's own asyncio tests on both drivers, two to three minutes
	$(VENV_PYTHON) tests/suites/asyncio_suites.py --jobs $(JOBS)

# evtop is tested from outside on every kind of hub, which needs packages that the hub's own tests do not.
EVTOP_VENV ?= $(CURDIR)/.venv-evtop
$(EVTOP_VENV)/.ready: requirements/evtop.txt
	$(PYTHON) -m venv $(EVTOP_VENV)
	$(EVTOP_VENV)/bin/python -m pip install -q --disable-pip-version-check -r requirements/evtop.txt
	touch $@

.PHONY: evtop-build
evtop-build:
	CARGO_PROFILE_DEV_OPT_LEVEL=1 cargo build -p evtop

.PHONY: evtop-test
evtop-test: develop $(EVTOP_VENV)/.ready evtop-build ## evtop against real processes of every kind of hub
	$(EVTOP_VENV)/bin/python -m pytest -q -m "not long" tests/evtop || \
	$(EVTOP_VENV)/bin/python -m pytest -q -m "not long" --last-failed --last-failed-no-failures none tests/evtop

.PHONY: evtop-long
# Measured as it is installed, optimised; the figures go to benches/results/evtop.md.
evtop-long: export EVTOP = $(CURDIR)/target/release/evtop
evtop-long: develop $(EVTOP_VENV)/.ready ## evtop's long runs, half an hour: false entries, cost, pauses: make evtop-long ONLY=attach
	cargo build --release -p evtop --bins --examples
	EVTOP_RESULTS=1 $(EVTOP_VENV)/bin/python -m pytest -q -s -m long $(if $(ONLY),-k "$(ONLY)") tests/evtop

EVTOP_VERSIONS ?= 3.10 3.11 3.12 3.13
.PHONY: evtop-matrix
evtop-matrix: develop $(EVTOP_VENV)/.ready evtop-build ## evtop on several Pythons, uringhub built for each: make evtop-matrix EVTOP_VERSIONS="3.10 3.13"
	EVTOP_PYTHONS=$$(tests/evtop/pythons $(EVTOP_VERSIONS)) && export EVTOP_PYTHONS && \
	$(EVTOP_VENV)/bin/python -m pytest -q -m "not long" $(if $(ONLY),-k "$(ONLY)") tests/evtop

.PHONY: evtop-wheel
evtop-wheel: $(VENV)/.ready-wheels ## evtop's manylinux wheel, installed and run
	$(VENV_PYTHON) tests/evtop/build_wheel.py

.PHONY: suites-asyncio
suites-asyncio: ## CPython's and uvloop's asyncio tests on both drivers: make suites-asyncio PY=3.12
	PYTHON=$(PYTHON) tests/suites/run $(PY) --asyncio

.PHONY: suites
suites: ## The same on another CPython, in a venv of its own: make suites PY=3.12
	PYTHON=$(PYTHON) tests/suites/run $(PY)

.PHONY: soak
soak: develop ## Ten minutes of random kill, timeout, close and fork on both drivers
	$(VENV_PYTHON) -m pytest -q -s --timeout=1800 tests/python/soak -m soak -k "not worlds"

.PHONY: soak-worlds
soak-worlds: develop ## The same with tasks and green threads mixed: cancel and kill, both worlds' timeouts
	$(VENV_PYTHON) -m pytest -q -s --timeout=1800 tests/python/soak -m soak -k worlds

RUNS ?= 500
STORM_JOBS ?= 5
STORM_PYTHON ?= $(VENV_PYTHON)
.PHONY: storm
storm: develop ## The kill storm: make storm RUNS=500 STORM_JOBS=5 STORM_PYTHON=.venv-pydebug/bin/python
	$(VENV_PYTHON) tests/python/storm/run_storms.py --runs $(RUNS) --jobs $(STORM_JOBS) --python $(STORM_PYTHON)

# --- showing it ----------------------------------------------------------------------------------

.PHONY: demo
demo: develop $(VENV)/.ready-bench ## A WSGI app and a TCP service under load, epolls against uring
	$(VENV_PYTHON) benches/demo.py

.PHONY: bench
bench: develop $(VENV)/.ready-bench ## The whole comparison, or a part: ROWS="echo-64x512 wsgi-*" ARGS=--quick
	$(VENV_PYTHON) benches/run.py $(ARGS) $(ROWS)

.PHONY: wheels
wheels: $(VENV)/.ready-wheels ## manylinux wheels for every CPython 3.10-3.13 found, each with a smoke test
	$(VENV_PYTHON) tests/python/packaging/build_wheels.py

.PHONY: clean
clean: ## Remove what the build made
	rm -rf target dist .venv .venv-*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
