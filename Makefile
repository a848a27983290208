# make demo   installs into .venv and runs the quickstart
# make test   installs the test extra and runs the tests
# make lint   formats are checked, names and types too
# make docs   builds the site into build/site and fails at any warning

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart

.PHONY: demo test lint docs clean

demo: $(VENV)/.base
	$(BIN)/giajax --config=quickstart --workdir=$(WORKDIR)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/.base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.docs: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build runs
