# K3s-DaaS: two commands matter, `make demo` and `make test`. Both set themselves up from python3 and a package registry.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(sort $(wildcard libs/*/pyproject.toml services/*/pyproject.toml))
LOCKED := infra/python/bootstrap.txt infra/python/requirements.txt
CODE := libs services tests infra
SEED ?= 1
# Test files in work at once; most of their time is waiting for servers.
WORKERS ?= 2

.PHONY: help demo up test check soak bench simulate fmt lock move eif-rootfs clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/.ready: $(LOCKED) $(PACKAGES) infra/python/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash infra/python/setup.sh
	@touch $@

demo: $(VENV)/.ready ## the whole system on this machine, shown and verified, in under two minutes
	@$(BIN)/daas demo

up: $(VENV)/.ready ## the same system, kept running until Ctrl-C
	@$(BIN)/daas up

check: $(VENV)/.ready ## ruff, format, mypy --strict
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy $(CODE)

test: check ## check, then every test
	@$(BIN)/pytest -m "not soak" -n $(WORKERS) --dist loadfile

soak: $(VENV)/.ready ## the long form of fuzzing, simulation and chaos
	@$(BIN)/pytest -m soak --timeout 3600

bench: $(VENV)/.ready ## throughput and memory, beside the floors they are measured against
	@$(BIN)/python tests/bench/run.py

simulate: $(VENV)/.ready ## a simulated cluster from a seed: make simulate SEED=7
	@$(BIN)/python libs/placement/tests/simulate.py $(SEED)

fmt: $(VENV)/.ready ## format and apply the safe fixes
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

lock: $(VENV)/.ready ## pin every dependency by hash again
	@VENV="$(VENV)" bash infra/python/lock.sh

move: ## rebuild the Move package (needs npm)
	@cd infra/move && npm ci --no-audit --no-fund && node build.mjs

eif-rootfs: ## the enclave's reproducible root file system: make eif-rootfs OUT=rootfs.cpio CA=nats-ca.pem
	@bash infra/nitro/build-rootfs.sh "$(OUT)" "$(CA)"

clean: ## remove what make made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .daas
