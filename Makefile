# `make demo` and `make test` need python3 and make only: they set up .venv themselves.
PYTHON ?= python3
OUT ?= demo-out
WORKERS ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
FROZEN := pyproject.toml constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)

# One thread a process: on shared cores OpenMP's spinning threads cost more than they bring.
CACHE := TORCHINDUCTOR_CACHE_DIR="$(CURDIR)/.cache/inductor"
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(CACHE)
BENCH_ENV := OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0 HF_HUB_OFFLINE=1 $(CACHE)
STORE ?=

.PHONY: help demo test slow plugins lint types bench bench-quick bench-scaling docs clean
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: .venv/.core ## distil the demo teacher and write a report to OUT (demo-out)
	OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0 $(BIN)/dlkit demo --out $(OUT)

test: .venv/.test ## run the fast tests in WORKERS (2) processes
	$(TEST_ENV) $(BIN)/pytest -q -n $(WORKERS)

slow: .venv/.test ## run the slow tests
	$(TEST_ENV) $(BIN)/pytest -q -m slow -n $(WORKERS) || [ $$? -eq 5 ]  # 5: there are none

plugins: .venv/.test ## build the example plugins, install them into a fresh environment, try them
	.ci/plugins $(BIN)/python

lint: .venv/.dev ## check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/.test .venv/.dev ## check types
	$(BIN)/pyright

bench: .venv/.test ## run the benchmarks (about ten minutes); STORE=1 keeps the run in docs/results
	$(BENCH_ENV) $(BIN)/pytest -q benchmarks/ --json .cache/bench.json
	$(if $(STORE),$(BIN)/python -m benchmarks.results .cache/bench.json)

bench-quick: .venv/.test ## run small benchmarks (a minute), which must reach 70 % of their bars
	$(BENCH_ENV) $(BIN)/pytest -q benchmarks/ --quick

bench-scaling: .venv/.test ## measure how cost grows with work; STORE=1 keeps it too
	$(BENCH_ENV) $(BIN)/python -m benchmarks.scaling --json .cache/scaling.json
	$(if $(STORE),$(BIN)/python -m benchmarks.results .cache/scaling.json)

docs: .venv/.docs ## build the site into site/
	$(BIN)/zensical build --clean

clean: ## remove .venv, caches and everything built
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis .benchmarks build dist site $(OUT)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes in alone and first, so that no other package can pull in another build of it.
.venv/.torch: constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11 or newer, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: dlkit needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V); say make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "make: $(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "Setting up .venv: torch and its company are about 1 GB, which takes a minute or more."
	$(PYTHON) -m venv .venv
	$(PIP) $(TORCH)
	@touch $@

.venv/.core: .venv/.torch $(FROZEN)
	$(PIP) -e .
	@touch $@

# .venv/.test, .venv/.dev, .venv/.docs: the package with that extra
.venv/.%: .venv/.torch $(FROZEN)
	$(PIP) -e '.[$*]'
	@touch $@
