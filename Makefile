# From nothing: `make demo` shows the software at work, `make test` proves it, `make check` asks in a few minutes.
# Each makes its own virtual environment in .venv and installs what it needs into it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Errors only: setuptools warns at length of folders named like the package, which is how this one is laid out.
SILENTLY := --quiet --quiet

# What is there is not fetched again: each stamp is as old as the last installation of its extras.
$(VENV)/stamp-demo: pyproject.toml constraints.txt
	@echo 'Installing into $(VENV): a minute or two.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(SILENTLY) --upgrade pip
	$(BIN)/python -m pip install $(SILENTLY) --constraint constraints.txt --editable '.[all]'
	touch $@

$(VENV)/stamp-test: $(VENV)/stamp-demo
	$(BIN)/python -m pip install $(SILENTLY) --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/stamp-lint: $(VENV)/stamp-test
	$(BIN)/python -m pip install $(SILENTLY) --constraint constraints.txt --editable '.[lint]'
	touch $@

.PHONY: demo check test lint format clean

demo: $(VENV)/stamp-demo
	$(BIN)/dvfb demo

# Two files at a time: those of one share what takes long to make.
test: $(VENV)/stamp-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Before each commit: all that lint finds, and the tests that take less than a minute together.
check: lint
	$(BIN)/python -m pytest -n 2 -m 'not slow and not kafka and not gpu'

lint: $(VENV)/stamp-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --package dvfb_stream
	$(BIN)/lint-imports

format: $(VENV)/stamp-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info demo-output
