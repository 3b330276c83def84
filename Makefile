# Every target sets up what it needs; `make` alone tells what there is.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test check format bench clean

help:
	@echo "make demo    set up, then run a year of flights through topic, workers, table and rows, and check the result"
	@echo "make test    set up, then run all tests"
	@echo "make check   set up, then lint, types, layers"
	@echo "make bench   set up, then W1 from batch envelopes beside DuckDB's batch query"
	@echo "make format  format the code"
	@echo "make clean   remove the environment and the demo's data"

setup: $(STAMP)

$(STAMP): pyproject.toml
	@echo "installing into $(VENV) (about half a minute)…"
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[demo,dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/python -m streamflow.examples.demo --data demo-data

test: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/loadgen bench W1-envelope --systems streamflow,duckdb

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo-data
