# Every command here sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Test processes side by side: four a core, because most tests wait for leases and locks.
JOBS   ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) \* 4)
PROFILE ?= local
ARCHIVE := examples/archive
# The conformance of what needs no server, and of what does.
SUITES   := $(wildcard $(patsubst %,tests/conformance/test_%.py,bucket cache collection database queue stream topic broken_*))
SERVERS  := $(filter-out $(SUITES),$(wildcard tests/conformance/test_*.py))
EMBEDDED := tests/unit $(SUITES)
COVERED  := $(EMBEDDED) tests/cli $(wildcard tests/integration/test_outbox*.py tests/integration/test_services_engine*.py \
	tests/integration/test_services_docker_engine.py)
REST     := $(SERVERS) $(filter-out $(COVERED),$(wildcard tests/integration/test_*.py)) tests/faults tests/typing

.DEFAULT_GOAL := help
.PHONY: help demo test thorough check lint bench bench-check sync docs matrix audit format clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[cli,sql]'
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

$(VENV)/.serving: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	touch $@

demo: $(VENV)/$(if $(filter local,$(PROFILE)),.installed,.serving) ## run the archive example on real files; PROFILE= says where
	$(if $(filter local,$(PROFILE)),,$(BIN)/portable services install --config $(ARCHIVE)/portable.toml --profile $(PROFILE))
	$(BIN)/python $(ARCHIVE)/run.py --profile $(PROFILE)

test: lint $(VENV)/.benching ## everything: lint, the tests that count for coverage, then servers, integration and faults
	rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest -q -n $(JOBS) --dist loadgroup $(COVERED)
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --include 'portable/*' --fail-under 95 --skip-covered --sort cover
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup -m 'not thorough' $(REST)

thorough: $(VENV)/.benching ## what takes minutes and make test leaves out: slow services in containers, Kafka by kafka-python
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup -m thorough $(REST)

check: lint ## lint, unit tests and embedded conformance, under two minutes
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup $(EMBEDDED)

lint: $(VENV)/.developing ## format, lint, types, drift of what is generated
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/python tools/generate_sync.py --check
	$(BIN)/mypy
	$(BIN)/basedpyright --warnings
	$(BIN)/bandit -q -r portable adapters -c pyproject.toml

bench: $(VENV)/.benching ## the benchmarks, side by side with the peers: JSON and a plot under benchmarks/results/
	$(BIN)/python -m benchmarks

bench-check: $(VENV)/.benching ## the benchmarks' ratios against their targets; fails naming each one missed
	$(BIN)/python -m benchmarks --check

$(VENV)/.benching: $(VENV)/.developing benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet -r benchmarks/requirements.txt
	touch $@

sync: $(VENV)/.developing ## generate the sync face from the async source
	$(BIN)/python tools/generate_sync.py

format: $(VENV)/.developing ## format the code, and fix what can be fixed
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format --quiet

docs: $(VENV)/.developing ## the documentation site, under site/
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/mkdocs build --strict --quiet

matrix: $(VENV)/.developing ## run the conformance suites, servers included, and write docs/reference/matrix.md
	PORTABLE_TEST_REQUIRE=all $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup tests/conformance --portable-matrix docs/reference/matrix.md

audit: $(VENV)/.developing ## known vulnerabilities of what we depend on, where advisories can be reached
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python tools/audit.py

clean: ## remove what the other commands made, the services of the demo included
	test ! -e $(ARCHIVE)/.portable/services || $(BIN)/portable services uninstall --config $(ARCHIVE)/portable.toml --all
	rm -rf $(VENV) .portable $(ARCHIVE)/.portable site build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
