# Every target sets up what it needs in .venv, and is quick when nothing changed.
PYTHON ?= python3
MODEL ?= models/minilm-l6-squad2
REVISION ?=
VARIANTS ?= fp32,fp16,int8
DATA ?=
PORT ?= 8080
SOAK ?= 60

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
BUNDLED := models/exported/minilm-l6-squad2

# demo, test, bench and serve use the bundle of the bundled checkpoint, which no other export may replace.
# Each other model, revision or choice of variants has a folder of its own, which `fastspan export` chooses.
comma := ,
ALL_VARIANTS := fp32$(comma)fp16$(comma)int8
STANDARD := $(if $(REVISION)$(filter-out $(ALL_VARIANTS),$(VARIANTS)),,$(filter models/minilm-l6-squad2,$(MODEL:/=)))
OUT ?= $(if $(STANDARD),$(BUNDLED))
# Asked for only where it is needed, and once everything is installed.
FOLDER = $(or $(OUT),$$($(BIN)/python -m fastspan.export.destination '$(MODEL)' '$(VARIANTS)' '$(REVISION)'))

EXPORT_SOURCES := $(shell find export engine/bundle/folder.py engine/bundle/manifest.py engine/bundle/variants.py engine/version.py -type f -not -name '*.pyc')
SOURCES := $(shell find engine export benchmarks -name '.venv*' -prune -o -name '*.py' -print)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup dev export demo test fuzz fuzz-serve test-reference test-integrations test-packaging soak golden test-kernels test-gpu lint parity bench bench-full bench-gpu bench-gpu-full bench-serve figures serve clean

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make export MODEL=<folder or hub id> [REVISION=...] [VARIANTS=fp32,fp16,int8] [OUT=...]"
	@echo "  make parity [MODEL=...] [DATA=squad.json]"

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "FastSpan needs Python 3.10 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv .venv

# Installing compiles the int8 kernels where there is a C++ compiler.
KERNELS := setup.py engine/kernels/build_kernels.py $(wildcard engine/kernels/*/*.cpp engine/kernels/*/*.h)

.venv/.run: pyproject.toml $(KERNELS) | .venv/bin/python
	$(PIP) -e '.[cpu,export]'
	@touch $@

.venv/.dev: pyproject.toml $(KERNELS) | .venv/bin/python
	$(PIP) -e '.[dev]'
	@touch .venv/.run $@

setup: .venv/.run  ## Install FastSpan with the CPU runtime and the exporter into .venv.

# The torch that the kept references were made with. On Linux, PyPI's brings several GB of CUDA packages; with
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu in the environment pip takes the CPU's alone.
TORCH ?= torch==2.13.0

.venv/.reference: pyproject.toml $(KERNELS) | .venv/bin/python
	$(PIP) -e '.[dev,optimum]' '$(TORCH)'
	@touch .venv/.run .venv/.dev $@

dev: .venv/.dev  ## Install what tests and linters need, without PyTorch.

$(BUNDLED)/fastspan.json: $(wildcard models/minilm-l6-squad2/*) $(EXPORT_SOURCES) | .venv/.run
	$(BIN)/fastspan export models/minilm-l6-squad2 --out $(BUNDLED)

ifeq ($(if $(STANDARD),$(OUT)),$(BUNDLED))
export: $(BUNDLED)/fastspan.json  ## Export a checkpoint (MODEL=...) to verified ONNX graphs; the bundled one by default.
	@$(BIN)/fastspan info $(BUNDLED)
else ifeq ($(abspath $(OUT)),$(abspath $(BUNDLED)))
export:
	@echo '$(OUT) is what demo, test, bench and serve use: export to another folder, OUT=...' >&2; exit 1
else
export: .venv/.run
	$(BIN)/fastspan export '$(MODEL)' --variants '$(VARIANTS)' $(if $(REVISION),--revision '$(REVISION)') $(if $(OUT),--out '$(OUT)')
endif

demo: $(BUNDLED)/fastspan.json  ## Export the bundled checkpoint and answer questions from real text.
	@$(BIN)/python -m fastspan.benchmarks.demo $(BUNDLED)

# A process a core, and no more than pays: each makes the bundles that its tests share.
SIDE_BY_SIDE ?= --numprocesses=logical --maxprocesses=4 --dist=worksteal
# Threads of BLAS wait by spinning, on the cores that the other processes want. And hundreds of processes are
# started: each would compile all sources, where the environment says to keep no bytecode.
CHEAPLY := OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

test: .venv/.dev $(BUNDLED)/fastspan.json  ## Run the tests; what PyTorch gives is kept in tests/golden.
	$(CHEAPLY) $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

SECONDS ?= 600
fuzz: .venv/.dev $(BUNDLED)/fastspan.json  ## Search for inputs that break a promise, for SECONDS (600).
	$(BIN)/python -m pytest --fuzz-seconds=$(SECONDS) $(ARGS)

test-reference: .venv/.reference $(BUNDLED)/fastspan.json  ## Compare with PyTorch and transformers themselves.
	$(BIN)/python -m pytest --reference=live $(ARGS)

# The packages that adapters are for, each in an environment of its own: they disagree about what they need.
INTEGRATIONS := $(patsubst tests/integrations/%/requirements.txt,%,$(wildcard tests/integrations/*/requirements.txt))
ONLY ?= $(INTEGRATIONS)

.venv-integrations/%/.ready: tests/integrations/%/requirements.txt tests/integrations/requirements-common.txt
	$(PYTHON) -m venv .venv-integrations/$*
	.venv-integrations/$*/bin/python -m pip install --quiet --disable-pip-version-check \
		-r tests/integrations/requirements-common.txt -r tests/integrations/$*/requirements.txt
	@if [ -f tests/integrations/$*/package.json ]; then \
		cp tests/integrations/$*/package.json .venv-integrations/$*/ && \
		npm install --prefix .venv-integrations/$* --ignore-scripts --no-audit --no-fund --loglevel error; fi
	@touch $@

# The sources are used where they lie, kernels included, so nothing is compiled again.
test-integrations: .venv/.dev $(BUNDLED)/fastspan.json build/typed $(ONLY:%=.venv-integrations/%/.ready)  ## Run each adapter against the package it is for (ONLY=name).
	@failed=; for name in $(ONLY); do echo "== $$name"; \
		PYTHONPATH="$(CURDIR)/build/typed" .venv-integrations/$$name/bin/python -m pytest tests/integrations/$$name $(ARGS) || failed="$$failed $$name"; \
	done; test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

test-packaging:  ## Build both distributions, resolve the extras on every Python, and go the README's way to an answer.
	PYTHON='$(PYTHON)' .ci/packaging

soak: .venv/.dev $(BUNDLED)/fastspan.json  ## Overload and attack the service for SOAK seconds a test, on an idle machine.
	FASTSPAN_SOAK_SECONDS=$(SOAK) $(BIN)/python -m pytest -s tests/engine/serving/test_soak.py $(ARGS)

REQUESTS ?= 50000
fuzz-serve: .venv/.dev $(BUNDLED)/fastspan.json build/typed .venv-integrations/schemathesis/.ready  ## Send REQUESTS (50000) requests made of the service's OpenAPI description.
	PYTHONPATH="$(CURDIR)/build/typed" .venv-integrations/schemathesis/bin/python -m pytest -s \
		tests/integrations/schemathesis --fuzz-cases=$(REQUESTS) $(ARGS)

golden: .venv/.reference $(BUNDLED)/fastspan.json  ## Record again what PyTorch and transformers give.
	$(BIN)/python -m pytest --reference=record

# The kernels without ONNX Runtime: under sanitizers, and for Arm under an emulator where both are installed.
DRIVER := tests/engine/kernels/build_driver.py
ARM := aarch64-linux-gnu
test-kernels:  ## Compare the int8 kernels' paths bit for bit, under sanitizers, and for Arm under qemu.
	$(PYTHON) $(DRIVER) build/kernels/sanitized --sanitize
	build/kernels/sanitized/driver $(CASES)
	@if command -v $(ARM)-g++ >/dev/null && command -v qemu-aarch64 >/dev/null; then \
		$(PYTHON) $(DRIVER) build/kernels/arm --compiler $(ARM)-g++ --machine aarch64 && \
		qemu-aarch64 -cpu max -L /usr/$(ARM) build/kernels/arm/driver 3; \
	else echo 'SKIPPED for Arm: install g++-$(ARM) and qemu-user'; fi

# Checkers want to see one package; the sources lie in three top-level folders. So they see links.
build/typed: $(SOURCES) Makefile
	@rm -rf $@ && mkdir -p $@/fastspan
	@ln -s "$(CURDIR)"/engine/* $@/fastspan/
	@ln -s "$(CURDIR)"/export "$(CURDIR)"/benchmarks $@/fastspan/
	@mkdir -p $@/haystack_integrations/components/readers
	@ln -s "$(CURDIR)"/engine/adapters/haystack $@/haystack_integrations/components/readers/fastspan
	@touch $@

lint: .venv/.dev build/typed  ## Check style, types and layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd build/typed && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml -p fastspan
	cd build/typed && PYTHONPATH=. ../../$(BIN)/lint-imports --config ../../pyproject.toml --no-cache

# A bundle that is there is compared as it is: another export would drop its calibration. Only the bundled one,
# unless it is named, is brought up to date with the exporter first.
ASKED_FOR := $(filter-out file,$(origin MODEL))$(if $(STANDARD),$(filter-out $(BUNDLED),$(OUT)),yes)
# Without DATA the project's own questions, and a part of SQuAD 2.0's dev set where it lies beside the project.
PARITY_DATA = $(if $(DATA),'$(DATA)','' $(wildcard $(SQUAD_PART)))
SQUAD_PART ?= ../shared/data/squad2-dev-part.json

parity: .venv/.reference  ## Compare every variant with PyTorch and write the reports to benchmarks/results.
	@$(if $(ASKED_FOR),test -f "$(FOLDER)/fastspan.json" ||) $(MAKE) --no-print-directory export
	@out="$(FOLDER)"; test -n "$$out" || exit 1; \
	missed=; for data in $(PARITY_DATA); do \
		$(BIN)/fastspan verify "$$out" --against pytorch --checkpoint '$(MODEL)' --out benchmarks/results \
			$${data:+--data "$$data"} || missed=yes; \
	done; test -z "$$missed"

bench: .venv/.reference $(BUNDLED)/fastspan.json  ## Measure speed against peers, quickly, and write the report.
	$(BIN)/python -m fastspan.benchmarks.suite --quick

bench-full: .venv/.reference $(BUNDLED)/fastspan.json  ## The same at full length, with every peer.
	$(BIN)/python -m fastspan.benchmarks.suite

# For longer, or at another limit: make bench-serve BENCH='--seconds 30 --p99-ms 100'
bench-serve: .venv/.dev $(BUNDLED)/fastspan.json  ## Offer the service loads up to twice its capacity, and write the report.
	$(BIN)/python -m fastspan.benchmarks.serving.suite $(BUNDLED) $(BENCH)

figures: .venv/.dev  ## Put the latest parity and speed figures into the README.
	$(BIN)/python -m fastspan.benchmarks.readme_tables

# onnxruntime and onnxruntime-gpu overwrite each other's files, so the GPU has an environment of its own.
.venv-gpu/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --disable-pip-version-check -e '.[gpu,export,bench]' hypothesis pytest
	@touch $@

bench-gpu: .venv-gpu/.ready $(BUNDLED)/fastspan.json  ## Measure on an NVIDIA GPU, quickly, and fill the report's GPU section.
	.venv-gpu/bin/python -m fastspan.benchmarks.suite --gpu --quick

bench-gpu-full: .venv-gpu/.ready $(BUNDLED)/fastspan.json  ## The same at full length, with every peer.
	.venv-gpu/bin/python -m fastspan.benchmarks.suite --gpu

test-gpu: .venv-gpu/.ready $(BUNDLED)/fastspan.json  ## Run the tests that need an NVIDIA GPU.
	.venv-gpu/bin/python -m pytest -m gpu tests/engine/runtime/cuda/test_cuda.py $(ARGS)

.venv/.serve: pyproject.toml | .venv/bin/python
	$(PIP) -e '.[serve]'
	@touch $@

serve: .venv/.serve $(BUNDLED)/fastspan.json  ## Answer questions over HTTP on PORT (8080).
	$(BIN)/fastspan serve $(BUNDLED) --port $(PORT)

clean:  ## Remove what was built and exported, and .venv.
	rm -rf .venv .venv-gpu .venv-integrations build dist engine/kernels/libfastspan_kernels.* models/exported models/.cache *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
