# make run    the daemon with an embedded broker and three synthetic phones
# make test   the tests, two at a time, then those with a window or a film, which want the machine alone;
#             what needs recordings, mosquitto or Xvfb is skipped where they are absent
# make check  format, lint, strict types and tests: what CI runs

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test check lint clean

run: $(VENV)/.installed
	@exec $(BIN)/hard run --source mqtt --simulate 3

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not xvfb and not alone"
	$(BIN)/python -m pytest -m "xvfb or alone"

check: lint
	@$(MAKE) --no-print-directory test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "hard needs Python 3.11 or later; name one with PYTHON=python3.11 make ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
