# make demo        from nothing to a served model (SMOKE=1: ask it six questions, then stop)
# make test        unit tests, then every notebook
# make test-fast   the quick unit tests
PYTHON ?= python3
PRESET ?= tiny
PORT ?= 8000
BIN := .venv/bin
export LIFECYCLE_REGISTRY ?= $(CURDIR)/registry
export HF_HUB_OFFLINE = 1
export TRANSFORMERS_VERBOSITY = error

.PHONY: demo train test test-fast lint clean

demo: train
	$(BIN)/lifecycle report --limit 100
	$(if $(SMOKE),$(BIN)/python -m serving.smoke --port $(PORT),$(BIN)/lifecycle serve production --port $(PORT))

train: .venv/base
	$(BIN)/lifecycle run --preset $(PRESET)

# Tests train into a registry of their own, which a second run finds again.
test test-fast: export LIFECYCLE_REGISTRY = $(CURDIR)/build/registry
test test-fast: export PRESET := $(PRESET)
# Unit tests run in two processes of one torch thread each: two threads that wait for each other lose more than they gain.
UNIT := OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore=tests/readme -n 2 --dist loadfile

test: lint
	$(UNIT)
	$(BIN)/python -m pytest --timeout=3600 --nbval-lax --nbval-cell-timeout=1800 notebooks
	$(BIN)/python -m pytest --timeout=3600 tests/readme

test-fast: .venv/test
	$(UNIT) -m "not slow"

lint: .venv/test
	$(BIN)/ruff check .

.venv/base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/test: .venv/base
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
