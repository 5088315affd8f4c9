# Three commands matter: `make quickstart`, `make demo` and `make test`. Each makes .venv if there is none and installs into it.
# `make server` adds a real Milvus server, without containers, that the tests then use as well.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install server quickstart demo test lint soak benchmarks clean

help:
	@echo "make quickstart   ingest the standard library, measure on functions held back (runs/quickstart)"
	@echo "make demo         a real chat model, fetched first: its own answers as a store, and people's (runs/demo)"
	@echo "make test         the test suite"
	@echo "make server       a real Milvus server for the tests (Linux x86-64, no containers)"
	@echo "make lint         ruff and mypy"
	@echo "make soak         long tests"
	@echo "make benchmarks   what the README's figures come from"

install: $(READY)

$(READY): pyproject.toml constraints.txt scripts/install.sh
	PYTHON=$(PYTHON) VENV=$(VENV) scripts/install.sh
	@touch $@

server: .venv-server/.installed

.venv-server/.installed: scripts/install-server.sh
	PYTHON=$(PYTHON) scripts/install-server.sh
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
	rm -rf $(VENV) .venv-server runs
