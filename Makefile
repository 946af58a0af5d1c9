# make serve   set up what serving needs, then serve models/ in the foreground
# make test    set up what the tests need, then run them all
# make check   format, lint, types and generated documents: under a minute
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt

.PHONY: serve test check format docs starter-models clean

serve: $(VENV)/serve.stamp
	@$(BIN)/python -m deployments $(ARGS)

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m "not cluster and not model" --durations=0 --durations-min=2

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/test.stamp
	$(BIN)/python -m deployments.openapi
	$(BIN)/python -m deployments.proto_text
	$(BIN)/python -m deployments.readme

starter-models: $(VENV)/serve.stamp
	$(BIN)/python -m starter_models $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/serve.stamp: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (a few minutes the first time) ..."
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Roster needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/test.stamp: $(VENV)/serve.stamp
	$(PIP) --editable '.[test,check]'
	@touch $@
