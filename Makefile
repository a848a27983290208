# make demo   installs into .venv and runs the quickstart
# make test   installs the extras test and peers, and runs the tests
# make lint   formats are checked, names and types too
# make docs   builds the site into build/site and fails at any warning
# make contracts SECOND=PYTHON  runs the contract tests on a second Python
# make wheel  builds a wheel, and runs it away from this checkout

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECOND ?= python3
OTHER := build/second
WORKDIR ?= runs/quickstart

.PHONY: demo test contracts lint docs wheel clean

demo: $(VENV)/.base
	$(BIN)/giajax --config=quickstart --workdir=$(WORKDIR)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadgroup --nbmake tests examples

contracts: $(OTHER)/.test
	$(OTHER)/bin/python -m pytest -n 2 --dist loadgroup tests/contracts

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: RUN = cd build/wheel && PYTHONPATH=site $(abspath $(BIN))/python -m
wheel: $(VENV)/.base
	rm -rf build/lib build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m pip install --quiet --no-deps --target build/wheel/site \
	  build/wheel/*.whl
	$(RUN) giajax.main --version
	$(RUN) giajax.main --list > list.txt
	$(RUN) giajax.launch.local --config=smoke --workdir=run --processes=1 \
	  --config.model.name=mlp --config.attack.name=linear_layer
	$(RUN) giajax.verify.calibration.thresholds --help > help.txt

$(VENV)/.base: pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[test,peers]'
	touch $@

$(VENV)/.docs: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

$(OTHER)/.test: pyproject.toml setup.py
	$(SECOND) -m venv $(OTHER)
	$(OTHER)/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build runs
