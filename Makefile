# Everything runs in .venv, which the first command makes; it needs Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint bench docs readers fuzz clean

demo: $(READY)  ## train on 4,000 digits, print the scores, draw the report
	$(BIN)/nearfar demo --out runs/demo --overwrite

test: $(READY)  ## all tests, the long ones included
	$(BIN)/pytest -n 2 --dist loadgroup

lint: $(READY)  ## style, types, and the order of the layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## speed, as ratios measured side by side; writes benchmarks/results.json
	$(BIN)/python -m benchmarks

docs: $(READY)  ## the documentation as a web site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

readers: $(READY)  ## the table of docs/readers.md, from its tests
	PYTHONPATH=tests $(BIN)/python -m readers.table

fuzz: $(READY)  ## 10,000 damaged files per reader; COUNT=100 READER=folder make fuzz
	PYTHONPATH=tests $(BIN)/python -m readers.fuzz --count $(or $(COUNT),10000) $(if $(READER),--reader $(READER))

clean:
	rm -rf .venv site

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nearfar needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
