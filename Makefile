# Everything a new machine needs is Python 3.10 or newer, pip and make; the tests of the page also need a Chromium.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.mailnet-installed

.PHONY: env demo test bench lint site audit clean

env: $(STAMP)

# torchattacks asks for torchvision, which it does not use; netcal's errors and bins need no pyro, gpytorch, tensorboard.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps torchattacks netcal
	touch $@

demo: env
	$(BIN)/mailnet demo --out runs/demo

lint: env
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# The pages of docs/ and the docstrings as a site in build/site; a dead link is an error.
site: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Known weaknesses of the pinned packages, in build/audit.txt. A report: it fails nothing, and says what it could not look up.
# pip-audit lives apart, as it would move what the tests run with.
audit: env
	test -x build/audit/bin/pip-audit || { $(BIN)/python -m venv build/audit \
	  && build/audit/bin/python -m pip install --quiet pip-audit; } || true
	@$(BIN)/python .ci/audit.py build/audit/bin/pip-audit constraints.txt build/audit.txt

# One thread a process: two processes of two threads each wait for one another.
test: lint site
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# Times beside a peer's, now and as last committed: a report, to be read by people.
bench: env
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed/regression.py

clean:
	rm -rf $(VENV)
