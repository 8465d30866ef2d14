PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PINS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo tables steps gaussian ablation mnist transfer bench test lint fmt clean .venv

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.demo ## train, sample and compare on breast cancer, into runs/demo
	$(BIN)/python -m experiments.uci --config=configs/uci.py:geometric --workdir=runs/demo

TABLES := breast_cancer wine digits
tables: .venv/.demo ## train all flows on three data sets, into runs/tables and docs/results/uci.md
	for task in $(TABLES); do $(BIN)/python -m experiments.tables \
		--config=configs/tables.py:$$task --workdir=runs/tables/$$task || exit 1; done
	$(BIN)/python -m experiments.publish.tables docs/results/uci $(TABLES:%=runs/tables/%)

FLOWS := euclidean normalized geometric
SEEDS := 1
steps: .venv/.demo ## quality by number of integration steps, into runs/steps and docs/results/steps.md
	for flow in $(FLOWS); do $(BIN)/python -m experiments.steps \
		--config=configs/steps.py:$$flow --workdir=runs/steps/$$flow || exit 1; done
	for seed in $(SEEDS); do $(BIN)/python -m experiments.steps --config=configs/steps.py:geometric \
		--config.base.seed=$$seed --config.steps='(8, 64)' --workdir=runs/steps/seed$$seed || exit 1; done
	$(BIN)/python -m experiments.publish.steps docs/results/steps \
		$(FLOWS:%=runs/steps/%) $(SEEDS:%=runs/steps/seed%)

gaussian: .venv/.demo ## spread of samples of a Gaussian, into runs/gaussian and docs/results/gaussian.md
	$(BIN)/python -m experiments.gaussian --config=configs/gaussian.py --workdir=runs/gaussian
	$(BIN)/python -m experiments.publish.gaussian docs/results/gaussian runs/gaussian

# Experiments on MNIST use each other's zoos and flows where their settings are the same.
SHARED := --config.shared=runs/shared
runs/ablation/%/results.json: | .venv/.demo
	$(BIN)/python -m experiments.ablation --config=configs/ablation.py:$* \
		--workdir=$(@D) $(SHARED)

TRIED := headline tried rates levers metric
ablation: $(TRIED:%=runs/ablation/%/results.json) ## what was tried on MNIST, into runs/ablation and docs/results/mnist-ablation.md
	$(BIN)/python -m experiments.publish.ablation docs/results/mnist-ablation $(TRIED:%=runs/ablation/%)

MNIST := headline large flows lossy guided unfolded widths trajectories layers
mnist: $(MNIST:%=runs/ablation/%/results.json) ## new MNIST networks beside published ones, into runs/ablation and docs/results/mnist.md
	$(BIN)/python -m experiments.publish.mnist docs/results/mnist $(MNIST:%=runs/ablation/%)
	$(BIN)/python -m experiments.steps --config=configs/steps.py:mnist --workdir=runs/steps/mnist $(SHARED)
	$(BIN)/python -m experiments.publish.steps docs/results/mnist-steps runs/steps/mnist
	$(BIN)/python -m experiments.path_errors --config=configs/path_errors.py:geometric \
		--workdir=runs/path_errors/geometric $(SHARED)
	$(BIN)/python -m experiments.publish.path_errors docs/results/mnist-path runs/path_errors/geometric

TRANSFERS := fashion digits rivals
TRANSFER_SEEDS := 0 1 2
transfer: .venv/.demo ## flows for other tasks and widths, into runs/transfer and docs/results/transfer.md
	for variant in $(TRANSFERS); do for seed in $(TRANSFER_SEEDS); do $(BIN)/python -m experiments.transfer \
		--config=configs/transfer.py:$$variant --config.base.seed=$$seed \
		--workdir=runs/transfer/$$variant/seed$$seed $(SHARED) || exit 1; done; done
	$(BIN)/python -m experiments.publish.transfer docs/results/transfer \
		$(foreach variant,$(TRANSFERS),$(TRANSFER_SEEDS:%=runs/transfer/$(variant)/seed%))

bench: .venv/.demo ## race PyTorch and measure growth, into runs/bench and docs/results/bench.md
	@$(PIP) torch==2.13.0 geoopt==0.5.1
	$(BIN)/python -m experiments.bench --config=configs/bench.py --workdir=runs/bench
	$(BIN)/python -m experiments.publish.bench docs/results/bench runs/bench

test: lint ## lint, type-check and test
	$(BIN)/python -m pytest -n $(WORKERS)

lint: .venv/.test ## lint and type-check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright --pythonpath $(BIN)/python

fmt: .venv/.test ## format and fix what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove caches and builds; .venv and runs stay
	rm -rf build dist .hypothesis .pytest_cache .ruff_cache
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
