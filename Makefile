# `make demo` and `make test` need nothing but make, bash and Python 3.11: each sets up what it uses.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# The tests start hundreds of Python processes, which would each compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
STAMP := .venv/.setup-done
CLIENTS := .venv/clients/.done
PROGRAMS := .venv/client-programs/.done
BINDINGS := .venv/tensorrt/.done
# Where `make demo` puts its video, and what else to hand to pytest: `make test ARGS="-k spec"`.
OUT ?= outputs/demo
ARGS ?=

# `make test` runs this many tests at a time.
WORKERS ?= $(shell nproc)
# What `make quick` leaves out, and what only `make test-all` runs: marks of pyproject.toml.
SLOW := browser or server or program or ranks or export or postgres or s3 or containers or gpu or slow
PYTEST = HF_HUB_OFFLINE=1 $(BIN)/pytest

.PHONY: setup demo docs quick test test-all clients security containers check fix bench gpu mutants train lock clean help

setup: $(STAMP) ## make .venv with everything in it; at once when nothing changed

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh scripts/debian.sh
	@bash scripts/setup.sh
	@touch $@

demo: setup ## a prompt becomes a video, through a real Triton
	@bash scripts/demo.sh "$(OUT)"

$(CLIENTS): scripts/clients.sh $(wildcard tests/e2e/clients/packages/*) | setup
	@bash scripts/clients.sh
	@touch $@

$(PROGRAMS): scripts/client_programs.sh $(wildcard tests/e2e/clients/packages/*.txt) \
		$(wildcard tests/e2e/clients/packages/promptfoo/*) | setup
	@bash scripts/client_programs.sh
	@touch $@

$(BINDINGS): scripts/tensorrt_bindings.sh | setup
	@bash scripts/tensorrt_bindings.sh
	@touch $@

# One worker more than cores, because many quick tests wait for something.
quick: setup ## the tests that start no server and export nothing: a minute
	$(PYTEST) -n $$(($(WORKERS) + 1)) -m "not ($(SLOW) or exhaustive)" $(ARGS)

test: setup $(CLIENTS) $(BINDINGS) ## every test but the combinations of `make test-all`, with OpenAI's clients
	@bash scripts/setup_tests.sh
	$(PYTEST) -n $(WORKERS) --durations=20 -m "not exhaustive and not containers" $(ARGS)

test-all: setup $(CLIENTS) $(PROGRAMS) $(BINDINGS) ## every test, also all families in all precisions and with all engines
	@bash scripts/setup_tests.sh
	$(PYTEST) -n $(WORKERS) --durations=20 $(ARGS)

clients: setup $(CLIENTS) $(PROGRAMS) ## every client against the server; writes the table of docs/clients
	HF_HUB_OFFLINE=1 $(BIN)/python -m scripts.client_matrix

security: setup ## run every attack of tests/security and print the table of results
	@bash scripts/setup_tests.sh
	$(PYTEST) tests/security $(ARGS)

containers: setup ## build the images proxy and cpu, and test them with a real docker
	@bash scripts/containers.sh $(ARGS)

check: setup ## format, lint, types, layers, file lengths and words; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_file_length.py
	$(BIN)/python scripts/check_words.py

docs: setup ## the pages of docs/ as a site in build/docs; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs

fix: setup ## format, and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## every benchmark; each also runs alone: .venv/bin/python bench/NAME.py
	@shopt -s nullglob; for file in bench/[!_]*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

gpu: setup ## the acceptance run on a GPU: right, then fast beside diffusers (ARGS=--tiny: on a CPU)
	HF_HUB_OFFLINE=1 $(BIN)/python -m bench.gpu.accept $(ARGS)

mutants: setup ## put faults into the modules that decide, and count those that no test notices
	HF_HUB_OFFLINE=1 $(BIN)/python -m scripts.mutants $(ARGS)

train: setup ## train models/shapes anew; resumes where it was stopped
	$(BIN)/python -m models.recipe $(ARGS)

lock: ## write constraints.txt anew, keeping its pins where they still fit
	@bash scripts/lock.sh -c constraints.txt

clean: ## remove the environment, outputs and caches
	rm -rf .venv outputs build dist .pytest_cache .ruff_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
