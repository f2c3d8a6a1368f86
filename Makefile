# `make demo` and `make test` work on a fresh machine with Python 3.10 or newer and a package index.

PYTHON ?= python3
BIN := .venv/bin
IMPRESS := $(BIN)/impress
DEMO := build/demo.impress
RUNS ?= 1000000
TYPED_TESTS := benchmarks cli faults format fuzz learn packaging zoo
export MYPYPATH := tests/cli:tests/faults:tests/format:tests/fuzz:tests/zoo

.PHONY: install demo test test-slow bench fuzz check docs package release zoo-verify clean

install: .venv/installed

.venv/installed: pyproject.toml impress_format/__init__.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	@# On all cores, where pip compiles on one; else the first command would take ten seconds. Some files are templates.
	@$(BIN)/python -m compileall -q -j 0 $(BIN)/../lib/python*/site-packages > /dev/null 2>&1 || true
	touch $@

demo: .venv/installed
	@rm -rf $(DEMO)
	@echo '$$ impress bank create $(DEMO) rotated-digits/0:360:36'
	@$(IMPRESS) bank create $(DEMO) rotated-digits/0:360:36
	@echo '$$ impress task add $(DEMO) rotated-digits/15:360:60'
	@$(IMPRESS) task add $(DEMO) rotated-digits/15:360:60
	@echo '$$ impress eval $(DEMO) --wrong-mask'
	@$(IMPRESS) eval $(DEMO) --wrong-mask
	@echo '$$ impress stats $(DEMO) --total-tasks 1000'
	@$(IMPRESS) stats $(DEMO) --total-tasks 1000

# One file a core, and one thread each: more would only wait for each other.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder

test-slow: .venv/installed
	$(BIN)/python -m pytest -q -m slow

bench: .venv/installed
	$(BIN)/python tests/benchmarks/steps.py
	$(BIN)/python tests/benchmarks/inference.py
	$(BIN)/python tests/benchmarks/million_tasks.py 100000
	$(BIN)/python tests/benchmarks/driver.py 20000
	$(BIN)/python tests/benchmarks/engines.py 1

zoo-verify: .venv/installed
	$(IMPRESS) zoo verify --zoo zoo
	$(BIN)/python zoo/rebuild.py digits-rotated

# Linux only: atheris has wheels for nothing else. RUNS inputs in all, an eighth for each kind of file.
fuzz: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	for kind in manifest mask task calibration recogniser projection pack frame; do \
		$(BIN)/python tests/fuzz/fuzz.py $$kind -runs=$$(($(RUNS) / 8)) || exit 1; \
	done

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# One folder at a time: each has its own conftest.py and helpers.
	for folder in $(TYPED_TESTS); do $(BIN)/mypy tests/$$folder/*.py || exit 1; done

# The site of the documentation, in build/site: open build/site/index.html.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --config-file .mkdocs.yml

# Wheel and sdist, installed into an empty environment and used there. TRY=python3.12 for another Python.
package: .venv/installed
	$(BIN)/python tests/packaging/try_package.py $(TRY)

# Wheel and sdist in dist/, tried under every Python found, with the newest and the oldest releases of what they need; then
# the changelog's version and a local tag. Nothing is uploaded. PYTHONS="python3.11 /path/to/python3.12" for others.
release: .venv/installed
	$(BIN)/python tests/packaging/release.py $(PYTHONS)

clean:
	rm -rf build dist .venv
