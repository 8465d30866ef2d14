PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PINS := pyproject.toml constraints.txt
STUDIES := demo-settings uci steps steps-mnist path_errors gaussian mnist mnist_ablation transfer networks
# Studies use each other's zoos and flows where their settings are the same.
STORE := --store=runs/store

.DEFAULT_GOAL := help
.PHONY: help demo $(STUDIES) flows bench test test-all docs lint fmt clean fuzz kills .venv

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "make STUDY     run a study, or STUDY-VARIANT, and write its page in docs/results: $(STUDIES)"

demo: .venv/.demo ## train, sample and compare on breast cancer, into runs/demo
	$(BIN)/python -m experiments run demo --workdir=runs/demo

$(STUDIES): .venv/.demo
	$(BIN)/python -m experiments run $(subst -,:,$@) --workdir=runs/$@ $(STORE)
	$(BIN)/python -m experiments page $(subst -,:,$@) --workdir=runs/$@

flows: runs/flows/pretrained runs/flows/pretrained-mnist ## make the flows of a release, with their cards
runs/flows/%: .venv/.demo
	$(BIN)/python -m experiments run $(subst -,:,$*) --workdir=runs/$* $(STORE)
	$(BIN)/python -m experiments export $(subst -,:,$*) --workdir=runs/$* $(STORE) --to=$@

bench: .venv/.demo ## race PyTorch and measure growth, into runs/bench and docs/results/bench.md
	@$(PIP) torch==2.13.0 geoopt==0.5.1
	$(BIN)/python -m experiments run bench --workdir=runs/bench
	$(BIN)/python -m experiments page bench --workdir=runs/bench

test: lint ## lint, type-check and test: what a contributor runs, in minutes
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'not slow and not optimised'

test-all: .venv/.test ## the tests that `make test` leaves out: kills, processes, all experiments
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'slow and not optimised'
	WFM_TESTS_OPTIMISED=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m optimised

fuzz: .venv/.test ## damage the files of every reader in 2000 ways each, in minutes
	WFM_FUZZ=2000 $(BIN)/python -m pytest -q -s tests/test_fuzzed_readers.py

KILLS ?= 200
kills: .venv/.test ## kill whole runs KILLS times, and compare what they end with
	rm -rf runs/kills
	$(BIN)/python -m tests.kills runs/kills $(KILLS)

docs: .venv/.docs ## execute the notebooks and build the documentation into site/, without a network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: .venv/.test ## lint and type-check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright --pythonpath $(BIN)/python

fmt: .venv/.test ## format and fix what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove caches and builds; .venv and runs stay
	rm -rf build dist site .hypothesis .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

# An existing .venv is reused, with whatever is installed in it.
.venv: $(BIN)/pip
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
		"wfm needs Python 3.11 or newer, and $(PYTHON) is older: try make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

# A stamp is newer than the pins it was installed from, so nothing is installed twice.
.venv/.demo: $(PINS) | .venv
	@echo "Installing wfm into .venv (minutes, the first time)"
	@$(PIP) --editable '.[experiments]'
	@touch $@

.venv/.test: $(PINS) | .venv
	@echo "Installing wfm and its test tools into .venv (minutes, the first time)"
	@$(PIP) --editable '.[test]'
	@touch .venv/.demo $@

.venv/.docs: $(PINS) | .venv
	@echo "Installing wfm and what builds its documentation into .venv (minutes, the first time)"
	@$(PIP) --editable '.[docs]'
	@touch .venv/.demo $@
