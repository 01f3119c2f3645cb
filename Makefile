# Two commands for everybody: `make demo` and `make test`. All of it stays in this folder (.venv, .demo, caches of
# the checkers); only the package managers use their own caches.

# The first Python here that is new enough and can make virtual environments; version managers leave shims on PATH
# that only print an error, so each is tried. Without one, `.ci/prepare` says what to install.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; \
	done; command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check format docs reference release clean
.DELETE_ON_ERROR:

demo: $(READY)
	@$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site in .site; readable from the disk. `reference` writes what of it is made from the code.
docs: $(READY)
	@TMPDIR=$(CURDIR)/$(VENV) NO_MKDOCS_2_WARNING=1 PYTHONWARNINGS=ignore $(BIN)/mkdocs build --quiet

reference: $(READY)
	$(BIN)/python docs/making/reference.py

release: $(READY)
	@$(BIN)/python deploy/release.py

clean:
	rm -rf $(VENV) .demo .site dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# Made anew when the dependencies change; a half-made one is not taken for a whole one.
$(READY): pyproject.toml .ci/prepare
	@.ci/prepare "$(PYTHON)" "$(VENV)"
	@touch $(READY)
