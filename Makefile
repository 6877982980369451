# Every target sets up what it needs: a virtual environment with the pinned packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: demo test lint bench bench-planted picture clean

demo: $(READY)
	$(BIN)/otoscope demo --out out/demo --force

# One process for each core, each with one thread: threads that wait for one another cost more than they bring.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m tests.bench

bench-planted: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench_planted

# The pictures in the README: the demo's report as headless Chromium shows it.
picture: demo
	$(BIN)/python -m tests.pictures out/demo/report.html docs

clean:
	rm -rf $(VENV) out build dist *.egg-info

# torch first, so that nothing pulls in another build of it.
$(READY): pyproject.toml constraints.txt tests/third_party.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps --requirement tests/third_party.txt
	touch $(READY)
