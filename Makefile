# Every target sets up what it needs; `make` alone tells what there is.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CARGO := $(shell command -v cargo)
KERNEL := $(VENV)/.kernel

.PHONY: help setup demo test check format bench autoscale wheels clean

help:
	@echo "make demo    set up, then run a year of flights through topic, workers, table and rows, and check the result"
	@echo "make test    set up, then run all tests"
	@echo "make check   set up, then lint, types, layers"
	@echo "make bench   set up, then W1 from batch envelopes beside DuckDB's batch query"
	@echo "make autoscale  set up, then the autoscaler's score beside other systems', if ../shared/autoscale is there"
	@echo "make wheels  build what is to be installed elsewhere, and the native kernel if there is Rust, into dist/"
	@echo "make format  format the code"
	@echo "make clean   remove the environment and the demo's data"

setup: $(STAMP) $(if $(CARGO),$(KERNEL))

$(STAMP): pyproject.toml
	@echo "installing into $(VENV) (about half a minute)…"
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[demo,dev]'
	$(if $(CARGO),,@echo "no cargo on the path: JSON will be decoded without the native kernel, at about half the speed")
	touch $(STAMP)

$(KERNEL): $(STAMP) $(wildcard kernel/*.toml kernel/Cargo.lock kernel/*.pyi kernel/src/*.rs)
	@echo "building the native kernel into $(VENV) (about half a minute)…"
	@$(BIN)/pip install --quiet ./kernel && touch $(KERNEL) || \
		echo "the native kernel could not be built (see kernel/README.md): JSON will be decoded without it, at about half the speed"

demo: setup
	$(BIN)/python -m streamflow.examples.demo --data demo-data

test: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(CARGO),cargo fmt --manifest-path kernel/Cargo.toml --check)
	$(if $(CARGO),cargo clippy --manifest-path kernel/Cargo.toml --quiet -- -D warnings)

bench: setup
	$(BIN)/loadgen bench W1-envelope --systems streamflow,duckdb

autoscale: setup
	$(BIN)/python tests/autoscale_score.py $(if $(OWN),--own)

wheels: setup
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist . $(if $(CARGO),./kernel)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(CARGO),cargo fmt --manifest-path kernel/Cargo.toml)

clean:
	rm -rf $(VENV) demo-data kernel/target
