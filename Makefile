# Two commands for a fresh machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?=

.DELETE_ON_ERROR:
.PHONY: demo test test-full lint docs

demo: $(VENV)/.installed
	$(BIN)/spikeloom train digits $(if $(RUN),--run-dir $(RUN))

# two processes of one OpenMP thread each: more would wait for each other
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

test-full: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --full

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

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
