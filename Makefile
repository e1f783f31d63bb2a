# Two commands do everything on a fresh Debian or Ubuntu machine: `make lab` and `make test`.
SHELL := /bin/bash
CACHE := $(if $(DPP_CACHE),$(DPP_CACHE),$(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/dpp)
BOOTSTRAP := $(CACHE)/bootstrap-$(shell sha256sum requirements-bootstrap.txt | cut -c1-12)
UV := $(BOOTSTRAP)/bin/uv
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Thousands of Python processes are started: each would compile what it imports (a second for Ansible, eight for the Butler).
unexport PYTHONDONTWRITEBYTECODE

KERNELS := .venv/kernels

VISITS ?= 6
TESTS ?= tests

.PHONY: help lab lab-down test test-slow check environment update fix

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

lab: environment ## Bring up the whole observatory on this machine, and a night through it
	dpp doctor --fix
	dpp lab up
	dpp night run --visits $(VISITS)

lab-down: environment ## Take the lab down; leave nothing but the caches
	dpp lab down

# Two lanes: tests with routers and labs, one after the other, and beside them all others, which mostly wait. A night of the lab
# has the machine to itself (tests/quiet.py).
test: environment ## Prove everything (root): from lint to roles, routers, kills, and a lab of its own with a night through it
	dpp doctor --fix --tests
	dpp tools build
	DPP_LAB=$${DPP_LAB:-dpptest} python -m pytest --numprocesses=2 -m "not slow" $(TESTS)

test-slow: environment ## Prove the rest: Ansible's lint, long series of crashes, every service without its workload, real sky without a lab
	dpp doctor --fix --tests
	dpp tools build
	DPP_LAB=$${DPP_LAB:-dpptest} python -m pytest -m slow $(TESTS)

check: environment ## Lint, types and fast tests: no root, no lab, under two minutes
	python -m pytest --numprocesses=2 -m "not root and not lab and not slow" $(TESTS)

fix: environment ## Let the formatters mend what they can
	ruff check --fix . && ruff format .

update: $(UV) ## Move every pin to its newest version
	$(UV) lock --upgrade

environment: $(UV) ## The locked Python environment, and the pixel kernels compiled
	@$(UV) sync --locked --quiet --all-packages --all-extras --all-groups
	@$(MAKE) --silent --no-print-directory $(KERNELS)

# Once for all processes: two that begin together would both compile everything.
$(KERNELS): uv.lock $(wildcard workloads/src/workloads/pixels/kernels/*.py)
	@python -m workloads.pixels.compile > $@.partial && mv $@.partial $@

# Named by what is in it, so it is made once; whatever another Python left of it half-made goes.
$(UV):
	@command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv" >&2; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || { apt-get update --quiet && apt-get install --yes --no-remove python3-venv; }
	python3 -m venv --clear $(BOOTSTRAP)
	$(BOOTSTRAP)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-bootstrap.txt
