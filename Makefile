# Everything a person or the CI runs. Needs only Python 3.11 or newer (with pip and venv), make and a POSIX shell.
#
# Each target makes its own part of the virtual environment first, and says so. What is installed is remembered under
# $(VENV)/.set-up by a checksum of the requirement files, so the second time costs nothing.

VENV ?= .venv
# The first of these that is 3.11 or newer; `make PYTHON=/path/to/python demo` picks another.
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	echo $$p && break; done)
endif

PY := $(VENV)/bin/python
PACKAGES := packages/core packages/serve packages/tune
# What the packages claim to run on. A path does as well as a name.
VERSIONS ?= python3.11 python3.12 python3.13
PIP_INSTALL := $(PY) -m pip install -qq --disable-pip-version-check --constraint constraints.txt

checksum := $(shell cat constraints.txt packages/*/pyproject.toml .ci/requirements.txt docs/requirements.txt \
	tests/requirements.txt tests/requirements-without-torch.txt examples/requirements.txt benchmarks/requirements.txt | cksum | cut -d' ' -f1)
stamp = $(VENV)/.set-up/$(1)-$(checksum)

# Files of tests that run at a time: one more than cores, since a fifth of the time is spent waiting.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# A process of tests that dies is not replaced: pytest-xdist waits without end for the files of the one that died.
SIDE_BY_SIDE := -n $(JOBS) --dist loadfile --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help demo test versions version check bench docs changelog format clean
MAKEFLAGS += --no-print-directory

demo: $(call stamp,demo) ## Train thousands of forecasts in parallel on real data (sets itself up; about two minutes)
	@echo "==> running examples/forecast_fleet.py"
	@$(PY) examples/forecast_fleet.py

test: $(call stamp,test) ## Run every test, several files at a time (sets itself up; ARGS="-k name" passes options to pytest)
	@echo "==> running the tests"
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(ARGS)

versions: ## Run the tests on each supported Python, without PyTorch (VERSIONS="python3.12 /path/to/python" picks)
	@for python in $(VERSIONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 1; \
		echo "==> Python $$version" && \
		$(MAKE) version PYTHON=$$python VENV=.venv-$$version || exit 1; \
	done

version: $(call stamp,version)
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(ARGS)

check: $(call stamp,check) ## Lint, format check, types, room order: all that needs no run
	@echo "==> ruff check" && $(PY) -m ruff check .
	@echo "==> ruff format --check" && $(PY) -m ruff format --check .
	@echo "==> mypy --strict" && $(PY) -m mypy
	@echo "==> the public face is completely typed" && $(PY) .ci/public_types.py
	@echo "==> room order" && $(VENV)/bin/lint-imports

bench: $(call stamp,bench) ## Measure Skate against Ray, Dask and the standard library in one interleaved run
	@echo "==> running benchmarks"
	@$(PY) -m benchmarks $(ARGS)

docs: $(call stamp,docs) ## Build the documentation into docs/_build/html; a warning is an error
	@echo "==> building docs/_build/html"
	@$(PY) -m sphinx --fail-on-warning --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

changelog: $(call stamp,test) ## Print the changes that are not released yet
	@$(PY) -m towncrier build --draft --version unreleased

format: $(call stamp,check) ## Format the code and repair what ruff can
	@$(PY) -m ruff check --fix-only --quiet . ; $(PY) -m ruff format .

clean: ## Remove the virtual environment and everything built
	rm -rf $(VENV) .venv-3.* docs/_build out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
	find packages tests examples benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# ---------------------------------------------------------------------------------------------- the environment

$(PY):
	@if [ -z "$(PYTHON)" ]; then echo "Skate needs Python 3.11 or newer, and none was found." >&2; exit 1; fi
	@echo "==> making a virtual environment in $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python's venv module does not work here (Debian: apt install python3-venv)" >&2; exit 1; }

# $(1) the set-up, $(2) its requirement files, $(3) what to say. The stamps of older checksums go.
define set-up
$(call stamp,$(1)): | $(PY)
	@echo "==> installing $(3)"
	@$(PIP_INSTALL) $(addprefix --editable ,$(PACKAGES)) $(addprefix --requirement ,$(2))
	@mkdir -p $$(@D) && rm -f $$(@D)/$(1)-* && touch $$@
endef

$(eval $(call set-up,demo,examples/requirements.txt,Skate and what the examples need (about a minute; once)))
$(eval $(call set-up,test,tests/requirements.txt,Skate and what the tests need with PyTorch among it (one to two minutes; once)))
$(eval $(call set-up,version,tests/requirements-without-torch.txt,Skate and what the tests need but PyTorch))
$(eval $(call set-up,check,.ci/requirements.txt examples/requirements.txt,the checkers))
$(eval $(call set-up,docs,docs/requirements.txt,what the documentation needs))
$(eval $(call set-up,bench,benchmarks/requirements.txt,what the benchmarks compare with (Ray and Dask among it; once)))
