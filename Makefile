# From nothing: `make demo` shows the software at work, `make test` proves it, `make check` asks in a few minutes.
# Each makes its own virtual environment in .venv and installs what it needs into it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Errors only: setuptools warns at length of folders named like the package, which is how this one is laid out.
SILENTLY := --quiet --quiet
COMMA := ,
UNUSED := /site-packages/(.*/tests|plotly|sympy)/

# All extras that are asked for are resolved in one go. What came is compiled by all processors, where pip would use one,
# but for half of it that nothing here imports; some packages hold templates that are no Python, no fault of theirs.
install = $(PYTHON) -m venv $(VENV) \
	&& $(BIN)/python -m pip install $(SILENTLY) --upgrade pip \
	&& $(BIN)/python -m pip install $(SILENTLY) --no-compile --constraint constraints.txt --editable '.[$(1)]' \
	&& { $(BIN)/python -W ignore -m compileall -qq -j 0 -x '$(UNUSED)' $(VENV)/lib || true; }

# What is there is not fetched again: each stamp is as old as the last installation of its extras. `test` has those of
# `all`, and lint checks the tests, too.
$(VENV)/stamp-demo: pyproject.toml constraints.txt
	@echo 'Installing into $(VENV): a minute or two.'
	$(call install,all)
	touch $@

$(VENV)/stamp-test: pyproject.toml constraints.txt
	@echo 'Installing into $(VENV): a few minutes.'
	$(call install,test)
	touch $(VENV)/stamp-demo $@

$(VENV)/stamp-lint: pyproject.toml constraints.txt
	@echo 'Installing into $(VENV): a few minutes.'
	$(call install,test$(COMMA)lint)
	touch $(VENV)/stamp-demo $(VENV)/stamp-test $@

.PHONY: demo check test lint format clean

demo: $(VENV)/stamp-demo
	$(BIN)/dvfb demo

# Three files at a time, in the order of tests/conftest.py: tests of one file share what takes long to make. Two
# processors have time for a third: tests of brokers, servers and processes that end mostly wait.
test: $(VENV)/stamp-test
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 1

# Before each commit: all that lint finds, and the tests that take less than a minute together.
check: lint
	$(BIN)/python -m pytest -n 2 -m 'not slow and not kafka and not gpu'

lint: $(VENV)/stamp-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2 --package dvfb_stream
	$(BIN)/lint-imports

format: $(VENV)/stamp-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info demo-output
