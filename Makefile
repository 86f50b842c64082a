# make demo and make test set up everything they need in .venv, and are quick the second time.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not sys.version_info >= (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
PIP_QUIET := --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test workbench fuzz hostile lint format prove bench train export audit scorecard wheelhouse release clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.runtime  ## screen drawn radiographs with the built-in model: proof of an installation
	$(BIN)/cxr-edge demo --output demo
	@echo "your own films: $(BIN)/cxr-edge screen FOLDER     (. $(BIN)/activate makes it cxr-edge)"

# Three processes on two cores: many tests wait for a process or a socket.
test: $(VENV)/.dev $(VENV)/.tflite-runtime  ## run all tests; what is missing here is skipped by name
	$(BIN)/python -m pytest -n $(or $(JOBS),3) --dist loadfile --no-loadscope-reorder

workbench: $(VENV)/.workbench  ## install what trains, exports and measures, without running the tests
	@echo "python -m train --help, python -m export --help and python -m benchmarks --help, after . $(BIN)/activate"

lint: $(VENV)/.dev  ## formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/.dev  ## throw a million strange files, documents and requests at what reads: CASES=, SEED=
	$(BIN)/python -m tests.fuzz --cases $(or $(CASES),1000000) --seed $(or $(SEED),1)

hostile: $(VENV)/.dev  ## what is large, hostile, closed or killed, in full: 100 kills, 100,000 strange inputs
	CXR_EDGE_KILLS=100 $(BIN)/python -m pytest -n 2 --dist loadfile tests/hostile tests/edge_runtime/services \
		tests/edge_runtime/records/test_audit_log.py
	CXR_EDGE_KILLS=20 $(BIN)/python -m pytest tests/edge_runtime/archive
	$(BIN)/python -m tests.fuzz --cases 100000 --seed 2

format: $(VENV)/.dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

DATA ?= ../shared/data/chest_xray
WEIGHTS ?= imagenet
RUN ?= runs/default
BUNDLE ?= bundles/default

train: $(VENV)/.dev  ## train the default recipe: DATA=, WEIGHTS=, RUN=
	$(BIN)/python -m train fit --recipe default --data $(DATA) --weights $(WEIGHTS) --output $(RUN)

export: $(VENV)/.dev  ## export RUN as BUNDLE, if the verification gate lets it
	$(BIN)/python -m export $(RUN) --data $(DATA) --output $(BUNDLE)

bench: $(VENV)/.dev  ## measure BUNDLE, write docs/benchmarks.md and build/benchmarks.html
	$(BIN)/python -m benchmarks all --bundle $(BUNDLE) --run $(RUN) --data $(dir $(DATA:/=))

prove: $(VENV)/.dev  ## measure the shipped models again, from their float models, against every document: DATA=
	$(BIN)/python -m benchmarks prove --data $(dir $(DATA:/=))

audit: $(VENV)/.dev  ## what DATA holds and what is wrong with it: build/audit/index.html
	$(BIN)/python -m train audit --data $(DATA) --output build/audit

scorecard: $(VENV)/.dev  ## write docs/results.md from the evaluations in docs/results/recipes
	$(BIN)/python -m benchmarks scorecard --output docs/results.md

PLATFORM ?= aarch64
BOARD_PYTHON ?= 3.11
wheelhouse: .venv-release/.ready  ## all that a board needs to install with no network: PLATFORM=aarch64|armv7l|x86_64, BOARD_PYTHON=3.11|3.12|3.13
	.venv-release/bin/python deploy/wheelhouse.py $(PLATFORM) build/wheelhouse-$(PLATFORM) --python $(BOARD_PYTHON)

release: .venv-release/.ready  ## wheel, source archive, SBOM and SHA256SUMS of the last commit: RELEASE=
	.venv-release/bin/python deploy/release.py $(or $(RELEASE),build/release)

# What builds and publishes needs none of the workbench.
.venv-release/.ready:
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install $(PIP_QUIET) 'pip>=25.1' 'build>=1.2' 'cyclonedx-bom>=7.0'
	@touch $@

clean:  ## remove the environments and what was built
	rm -rf $(VENV) .venv-* build dist demo .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
ifdef UV
	uv venv --quiet --python $(PYTHON) $(VENV)
else
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_QUIET) --upgrade 'pip>=25.1'
endif

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
ifdef UV
	uv pip install --quiet --python $(BIN)/python -e .
else
	$(BIN)/python -m pip install $(PIP_QUIET) -e .
endif
	@touch $@

$(VENV)/.workbench: pyproject.toml | $(BIN)/python
ifdef UV
	uv pip install --quiet --python $(BIN)/python -e '.[onnx,dicom]' --group bench --group track
else
	$(BIN)/python -m pip install $(PIP_QUIET) -e '.[onnx,dicom]' --group bench --group track
endif
	@touch $@ $(VENV)/.runtime

$(VENV)/.dev: pyproject.toml | $(BIN)/python
ifdef UV
	uv pip install --quiet --python $(BIN)/python -e '.[onnx]' --group dev
else
	$(BIN)/python -m pip install $(PIP_QUIET) -e '.[onnx]' --group dev
endif
	@touch $@ $(VENV)/.runtime $(VENV)/.workbench

# tflite-runtime needs numpy 1 and Python 3.11: an environment of its own, with the oldest numpy and
# Pillow that we promise. Skipped where it cannot be had.
$(VENV)/.tflite-runtime: pyproject.toml | $(BIN)/python
	@if python3.11 -c '' 2>/dev/null && python3.11 -m venv .venv-tflite-runtime && \
	    .venv-tflite-runtime/bin/python -m pip install $(PIP_QUIET) 'pillow==9.4.*' 'tflite-runtime==2.14.*' 'numpy==1.24.*'; \
	then touch $@; \
	else rm -rf .venv-tflite-runtime; echo "no tflite-runtime here: its tests will be skipped"; fi
