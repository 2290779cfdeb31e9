VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo test lint bench

# Def-FD, 10 clients: Fashion-MNIST where it can be had, scikit-learn's digits (said loudly) elsewhere.
demo: $(VENV)/.sweep
	$(BIN)/deffd run dataset=auto strategy=def-fd feature-loss=l2 gamma=0.01 clients=10 rounds=5

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What the framework adds to PyTorch, as ratios; see benchmarks/README.md.
bench: $(VENV)/.test
	$(BIN)/deffd bench

$(VENV)/.sweep: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[sweep]"
	touch $@

$(VENV)/.test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@
