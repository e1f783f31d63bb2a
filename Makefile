# Two commands do everything on a fresh Debian or Ubuntu machine: `make lab` and `make test`.
SHELL := /bin/bash
CACHE := $(if $(DPP_CACHE),$(DPP_CACHE),$(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/dpp)
BOOTSTRAP := $(CACHE)/bootstrap-$(shell sha256sum requirements-bootstrap.txt | cut -c1-12)
UV := $(BOOTSTRAP)/bin/uv
INSTALLED := $(BOOTSTRAP)/installed
# Ansible refuses locales that are not UTF-8, and this one every Debian has.
export LC_ALL := C.UTF-8
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Thousands of Python processes are started: each would compile what it imports (a second for Ansible, eight for the Butler).
unexport PYTHONDONTWRITEBYTECODE

KERNELS := .venv/kernels

VISITS ?= 6
TESTS ?= tests
PROOFS_OF_TREE := PYTHONPATH=tests python -m proofs

.PHONY: help lab lab-down test prove owed check environment update fix

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

lab: environment ## Bring up the whole observatory on this machine, and a night through it
	dpp doctor --fix
	dpp lab up
	dpp night run --visits $(VISITS)

lab-down: environment ## Take the lab down; leave nothing but the caches
	dpp lab down

test: environment ## Prove a change in minutes (root): lint to a night on loopback, one real lab, and owed proofs that fit
	@$(PROOFS_OF_TREE) test

prove: environment ## Prove the rest (root), each in a tree of its own files: what is owed, or PROOFS="id ..." or GROUNDS="processes ..."
	@$(PROOFS_OF_TREE) prove $(addprefix --ground=,$(GROUNDS)) $(PROOFS)

owed: environment ## Say which proofs the tree owes; exit code 3 if any
	@$(PROOFS_OF_TREE) owed

check: environment ## Lint, types and fast tests: no root, no lab, under two minutes
	python -m pytest --numprocesses=2 --unproven -m "not root and not lab" $(TESTS)

fix: environment ## Let the formatters mend what they can
	ruff check --fix . && ruff format .

update: $(INSTALLED) ## Move every pin to its newest version
	$(UV) lock --upgrade

environment: $(INSTALLED) ## The locked Python environment, and the pixel kernels compiled
	@$(UV) sync --locked --quiet --all-packages --all-extras --all-groups
	@$(MAKE) --silent --no-print-directory $(KERNELS)

# Once for all processes: two that begin together would both compile everything. Trees share it by digest.
$(KERNELS): uv.lock $(wildcard workloads/src/workloads/pixels/kernels/*.py)
	@python -m workloads.pixels.compile --kept $(CACHE)/kernels > $@.partial && mv $@.partial $@

# Named by what is in it, so it is made once; whatever another Python left of it half-made goes.
$(INSTALLED):
	@command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv" >&2; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || { apt-get update --quiet && apt-get install --yes --no-remove python3-venv; }
	python3 -m venv --clear $(BOOTSTRAP)
	$(BOOTSTRAP)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-bootstrap.txt
	@touch $@
