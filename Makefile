# The main commands are `make quickstart`, `make demo` and `make test`. Each makes .venv first, if there is none, and
# installs the project into it. `make server` installs a real Milvus server, without containers, which the tests then use.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install server vllm quickstart demo test lint soak fuzz benchmarks clean

help:
	@echo "make quickstart   ingest the standard library, evaluate on held-out functions (runs/quickstart)"
	@echo "make demo         a real chat model, downloaded first: a store of its own answers, one of people's (runs/demo)"
	@echo "make test         run the test suite"
	@echo "make server       install a real Milvus server for the tests (Linux x86-64, no containers)"
	@echo "make vllm         install vLLM's CPU build for dresd serve and its tests (Linux x86-64, some 4 GB)"
	@echo "make lint         run ruff and mypy"
	@echo "make soak         run the long tests"
	@echo "make fuzz         corpora, command lines and damaged stores at random (EXAMPLES=N); failing ones are kept and tried first"
	@echo "make benchmarks   measure the figures of the README (hours)"

install: $(READY)

$(READY): pyproject.toml constraints.txt scripts/install.sh
	PYTHON=$(PYTHON) VENV=$(VENV) scripts/install.sh
	@touch $@

server: .venv-server/.installed

.venv-server/.installed: scripts/install-server.sh
	PYTHON=$(PYTHON) scripts/install-server.sh
	@mkdir -p $(@D) && touch $@

vllm: .venv-vllm/.installed

.venv-vllm/.installed: scripts/install-vllm.sh pyproject.toml
	PYTHON=$(PYTHON) scripts/install-vllm.sh
	@mkdir -p $(@D) && touch $@

quickstart: $(READY)
	$(BIN)/dresd quickstart

demo: $(READY)
	$(BIN)/dresd demo

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(READY)
	$(BIN)/python -m pytest -m soak

EXAMPLES ?= 2500

fuzz: $(READY)
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -m fuzz tests/fuzz

benchmarks: $(READY) server
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/retrieval.py
	$(BIN)/python benchmarks/pruning.py
	$(BIN)/python benchmarks/curves.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/batch_drafts.py
	PYTHONPATH=. $(BIN)/python benchmarks/results_sample.py
	PYTHONPATH=. $(BIN)/python benchmarks/peers.py
	PYTHONPATH=. $(BIN)/python benchmarks/peers.py --temperature 0.7
	PYTHONPATH=. $(BIN)/python benchmarks/ingest_ratio.py
	PYTHONPATH=. $(BIN)/python benchmarks/ingest_speed.py
	PYTHONPATH=. $(BIN)/python benchmarks/ingest_million.py
	PYTHONPATH=. $(BIN)/python benchmarks/server_search.py

clean:
	rm -rf $(VENV) .venv-server .venv-vllm runs
