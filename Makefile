# Two commands for everybody: `make demo` and `make test`. All of it stays in this folder (.venv, .demo, caches of
# the checkers); only the package managers use their own caches.

PYTHON ?= $(firstword $(foreach p,python3.14 python3.13 python3.12 python3.11 python3,$(shell command -v $(p) 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check format clean
.DELETE_ON_ERROR:

demo: $(READY)
	@$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .demo .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# Made anew when the dependencies change; a half-made one is not taken for a whole one.
$(READY): pyproject.toml .ci/prepare
	@.ci/prepare "$(PYTHON)" "$(VENV)"
	@touch $(READY)
