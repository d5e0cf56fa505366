# The whole workflow. Each word sets up what it needs.
VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= python3
PROTOS := $(wildcard protos/batchmesh/v1/*.proto)

.PHONY: demo test test-components check fix protos bench bench-peers chaos up clean

$(VENV)/.ready: pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv -q --allow-existing --python $(PYTHON) $(VENV) && VIRTUAL_ENV=$(VENV) uv pip install -q -e '.[dev]'; \
	else $(PYTHON) -m venv $(VENV) && $(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'; fi
	@touch $@

demo: $(VENV)/.ready          ## the main job: classify 898 images of handwritten digits
	@$(BIN)/python examples/digits/demo.py

test: $(VENV)/.ready          ## the suite; no root, nothing installed by hand
	$(BIN)/pytest -q -n 2 --dist worksteal

test-components: $(VENV)/.ready ## what needs installed servers, tools or root
	$(BIN)/pytest -q -rs tests/components

check: $(VENV)/.ready         ## lint, format, types, generated protos current, import boundaries
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python protos/generate.py --check
	$(BIN)/pytest -q tests/unit/test_boundaries.py

fix: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(VENV)/.ready
	$(BIN)/python protos/generate.py

bench: $(VENV)/.ready         ## the whole mesh and the same work by hand, at small sizes: three minutes
	$(BIN)/python benchmarks/bench.py

$(VENV)-peers/.ready: benchmarks/requirements-peers.txt
	$(PYTHON) -m venv $(VENV)-peers && $(VENV)-peers/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

bench-peers: $(VENV)/.ready $(VENV)-peers/.ready ## at the sizes of the targets, Ray, Dask, Spark, Daft beside it; writes RESULTS.md
	$(BIN)/python benchmarks/bench.py --full --rounds 5 --peers all --write benchmarks

chaos: $(VENV)/.ready         ## SEED=… FAULTS=…: the decision core in a simulation, then a real mesh whose parts die at random
	$(BIN)/python -m tests.simulation --events 1000000 $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS))

up: $(VENV)/.ready
	$(BIN)/batchmesh up

clean:
	rm -rf $(VENV) $(VENV)-peers .bench-inputs build dist *.egg-info
