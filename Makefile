# `make` says what there is. PYTHON chooses the interpreter (3.11 or 3.12).
PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
SHELL := /bin/bash
THERE = $(if $(wildcard $(CONFIG)),,$(error CONFIG=$(CONFIG) does not exist))
# Snakemake wants a home that it can write to and a name: a container's user may have neither.
USER_OF_NO_NAME := [ -w "$$HOME" ] || export HOME="$(CURDIR)/.snakemake/home"; id -un > /dev/null 2>&1 || export LOGNAME="$${LOGNAME:-$$(id -u)}";
RUN := export PATH="$(CURDIR)/.venv/bin:$$PATH"; $(USER_OF_NO_NAME)

.PHONY: help demo status test slurm-test conda-test lease-test gpu lint figures publish plan bench clean
.DEFAULT_GOAL := help

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo; echo "CONFIG=config/NAME.yaml chooses a configuration for demo, status, plan, publish and figures; CORES=4 how many cores."

demo: .venv/ready ## the whole chain, of the demo or another CONFIG; given again, it goes on (installs into .venv first, 6 GB)
	$(THERE)
	$(RUN) snakemake --cores $(CORES) --configfile $(CONFIG)

status: .venv/ready ## how far CONFIG is: done, running, failed, hours left
	$(THERE)
	@$(RUN) python -m midas.status $(CONFIG) $(SET)

# Two processes, each module in one of them, one thread each; the slowest modules first (tests/conftest.py). Or: python -m pytest tests/plan
test: .venv/ready ## the tests
	$(RUN) OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# A Slurm of one node, only for this: a search preempted, cancelled, ended by signal, budget and limit, goes on. 14 minutes; 77: no Slurm.
slurm-test: .venv/ready ## searches ended early in a Slurm of one node
	$(RUN) tests/slurm/run.sh

# Each rule in an environment of its own, made by a stand-in for conda (tests/conda/run.py). Wants a Python 3.12; 77: none here.
conda-test: .venv/ready ## every rule in its own environment
	$(RUN) VIRTUAL_ENV="$(CURDIR)/.venv" uv run --no-project --with py-rattler==0.28.0 python tests/conda/run.py $(PYTHON)

# The command for a slice of a GPU's time, with torch 2.11 on Python 3.12 and no other packages than it needs. Wants a Python 3.12; 77: none.
lease-test: .venv/ready ## the command for a slice of a GPU, on a CPU
	$(RUN) tests/lease/run.sh $(PYTHON)

gpu: ## how to use a GPU that is there for minutes
	@sed -n '/^## A GPU for a quarter of an hour/,$$p' benchmarks/README.md

lint: .venv/ready ## ruff, snakefmt, snakemake --lint, mypy, imports
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) snakefmt --check workflow
	$(RUN) snakemake --lint
	$(RUN) mypy
	$(RUN) lint-imports --no-logo

# Redraws tables, figures, claims and report of the published results (two sets at a time), or of a configuration that is named; starts no
# training.
SHOWN = $(if $(filter file,$(origin CONFIG)),$(wildcard results/published/*/config.yaml),$(CONFIG))
figures: .venv/ready ## tables, figures, claims, report again of what is published, or of CONFIG
	$(RUN) printf '%s\n' $(or $(SHOWN),$(error nothing is published; name a CONFIG)) | xargs -P 2 -I{} bash -c '\
	    rules=$$(snakemake --configfile {} --list-rules 2>/dev/null | grep -E "^(table|figure|further|claims|report)") || \
	    { snakemake --configfile {} --list-rules > /dev/null; exit 1; }; \
	    snakemake --cores $(CORES) --configfile {} --allowed-rules $$rules --forcerun $$rules -- tables figures further claims report'

# Puts what those are made of into results/published, small enough for the repository; SET="key=value ..." as it was run with.
publish: .venv/ready ## results of CONFIG into results/published
	$(THERE)
	$(RUN) python -m midas.publish $(CONFIG) $(SET)
	$(MAKE) figures SHOWN="$$(echo results/published/*/config.yaml)"

# What a configuration amounts to: jobs, and hours on this machine, extrapolated from steps that it times first.
plan: .venv/ready ## what CONFIG amounts to: jobs, and hours on this machine
	$(THERE)
	$(RUN) python -m midas.estimate $(CONFIG)

# Speed against plain code, side by side; wants quiet cores, takes some ten minutes on two.
bench: .venv/ready ## speed against plain code, ten minutes
	$(RUN) python -m benchmarks.bench
	$(RUN) python -m benchmarks.bench --methods

# uv installs in seconds what takes pip minutes; without it, `pip install -r requirements.lock` does the same.
# Compiled bytecode halves the start of every job.
.venv/ready: requirements.lock
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 12) else f"Python 3.11 or 3.12 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet uv
	.venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode -r requirements.lock
	touch $@

clean: ## remove .venv and what Snakemake keeps; no results
	rm -rf .venv .snakemake
