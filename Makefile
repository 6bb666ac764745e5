# Two commands for a fresh machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?=

.DELETE_ON_ERROR:
.PHONY: demo test test-full lint

demo: $(VENV)/.installed
	$(BIN)/spikeloom train digits $(if $(RUN),--run-dir $(RUN))

test: lint
	$(BIN)/pytest -n 2

test-full: lint
	$(BIN)/pytest -n 2 --full

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@
