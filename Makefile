# make serve   set up what serving needs, then serve models/ in the foreground
# make test    set up what the tests need, then run them all
# make check   format, lint, types, import contract and the rules of the project: under a minute
# make bench   measure this project beside its peers, and write benchmarks/RESULTS.md: half an hour
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt

CLIENTS := kserve mlserver javascript  # of tests/clients/

.PHONY: serve test check bench format docs starter-models chromium clean

serve: $(VENV)/serve.stamp
	@$(BIN)/python -m deployments $(ARGS)

test: $(VENV)/test.stamp
	@$(MAKE) --no-print-directory -j3 $(CLIENTS:%=$(VENV)/clients/%.stamp)
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -m "not cluster"
	$(BIN)/python -m pytest -m cluster
endif

check: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python -m pytest -q -n auto -m "not model" tests/test_*.py tests/reference

bench: $(VENV)/test.stamp
	$(PIP) --editable '.[bench]'
	$(BIN)/python -m benchmarks $(ARGS)

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/test.stamp
	$(BIN)/python -m deployments.reference

starter-models: $(VENV)/serve.stamp
	$(BIN)/python -m starter_models $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The browser that the UI's tests drive: Debian's where there is apt-get, elsewhere Playwright's own.
chromium:
	@echo "Installing Chromium ..."
	@if command -v apt-get > /dev/null; then \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get -qq update && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get -qqy install chromium > /dev/null; \
	else $(BIN)/python -m playwright install chromium; fi

$(VENV)/serve.stamp: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (a few minutes the first time) ..."
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Roster needs Python 3.11 or newer"'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/test.stamp: $(VENV)/serve.stamp
	$(PIP) --editable '.[test,check]'
	@command -v chromium > /dev/null || $(MAKE) --no-print-directory chromium
	@touch $@

$(VENV)/clients/javascript.stamp: tests/clients/package.json $(VENV)/test.stamp
	mkdir -p $(@D)/javascript && cp $< $(@D)/javascript
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/npm install --silent --prefix $(@D)/javascript
	@touch $@

# Clients that need other versions than Roster, each in a separate environment.
$(VENV)/clients/%.stamp: tests/clients/%.txt $(VENV)/test.stamp
	$(PYTHON) -m venv $(VENV)/clients/$*
	$(VENV)/clients/$*/bin/python -m pip --disable-pip-version-check install -q -r $<
	@touch $@
