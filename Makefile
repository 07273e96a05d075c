# `make demo` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-accelerators mutants lint types format docs perf kit clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## the quick QM9 comparison: a table in the terminal, plots in runs/demo
	$(BIN)/python -m benchmarks compare qm9 --methods stl ew db_mtl --preset quick --out runs/demo

test: $(VENV)/installed  ## everything that CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not slow'

# These train every method on every image set with whole networks and on molecules, and every network,
# and read ten thousand records. With `XLA_FLAGS= make test-slow` XLA also compiles as it does for users,
# see tests/helpers/fast_compilation.py.
test-slow: $(VENV)/installed  ## also the checks that take minutes
	$(BIN)/python -m pytest -n auto --dist worksteal

# In an environment of its own, as JAX looks for TPUs wherever their compiler is installed.
ACCELERATORS := .venv-accelerators
$(ACCELERATORS)/installed: pyproject.toml
	test -d $(ACCELERATORS) || $(PYTHON) -m venv $(ACCELERATORS)
	$(ACCELERATORS)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,compile-for]'
	touch $@

test-accelerators: $(ACCELERATORS)/installed  ## every method compiled for TPUs and GPUs; none is needed
	DBMTL_ACCELERATORS=1 $(ACCELERATORS)/bin/python -m pytest -n auto --dist worksteal tests/accelerators

# In an environment of its own, as Sphinx is no part of the tests' one. What the examples print, and the
# pictures, are kept in docs/_build/outputs, keyed by the sources; with DOCS_NETWORK=1 names of JAX and
# optax are links, too.
DOCS := .venv-docs
$(DOCS)/installed: pyproject.toml
	test -d $(DOCS) || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

docs: $(DOCS)/installed  ## the documentation site, docs/_build/html/index.html; warnings are errors
	$(DOCS)/bin/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html

mutants: $(VENV)/installed  ## single faults in the library: which ones does no test notice?
	$(BIN)/python -m tests.mutants

perf: $(VENV)/installed  ## step times next to equal weighting
	$(BIN)/python -m benchmarks perf

# What `python -m benchmarks.kit qm9` reads on a machine that has none of QM9's packages.
kit: data/qm9.npz  ## QM9 as one file, for a bare machine with an accelerator (docs/gpu_kit.md)
data/qm9.npz: $(VENV)/installed
	$(BIN)/python -m benchmarks.kit data --out $@

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(ACCELERATORS) $(DOCS)
