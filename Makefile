# Two commands from nothing: `make demo` shows the software at work, `make test` proves it.
# Both make their own virtual environment in .venv and install what they need into it.

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

.PHONY: demo test lint format clean

demo: $(VENV)/stamp-demo
	$(BIN)/dvfb demo

test: $(VENV)/stamp-test
	$(BIN)/python -m pytest

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
