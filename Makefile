# Needs Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Three test processes for two cores: tests wait half of their time. A file stays together: its tests share a node.
# tests/conftest.py has the order: what is slow comes first. A test that ends its process would end the next one, too.
PARALLEL := --numprocesses 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 1
# How long each of the long tests goes on, in seconds.
SOAK_SECONDS ?= 30

# Processes are started by the hundred: each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test soak nemesis lint bench test-newest lock clean

$(STAMP): pyproject.toml requirements/lock.txt requirements/build.txt
	@$(PYTHON) requirements/install.py $(VENV)

# The main job on the embedded LM, from start to end.
demo: $(STAMP)
	@$(BIN)/python examples/demo.py

# The test suite, a file at a time in each of two processes; closes with pytest's summary line.
test: $(STAMP)
	@$(BIN)/python -m pytest $(PARALLEL) $(AGAIN)

# What is slow and rare: chaos, floods, kills in clusters, properties with all their examples; and programs as users
# start them, each a fresh interpreter.
soak: $(STAMP)
	@COLD_STARTS=1 SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -m "soak or hypothesis" $(PARALLEL) $(AGAIN)

# What hosts, cables and clocks do to a cluster: network namespaces, so as root; half an hour.
nemesis: $(STAMP)
	@$(BIN)/python -m pytest -m nemesis

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy -p supervisors -p dspex_actors

# Tables; a few minutes on a quiet machine.
bench: $(STAMP)
	@$(BIN)/python -m benchmarks

# The test suite with the newest release of everything that pyproject.toml allows: once a week.
test-newest:
	@$(PYTHON) requirements/install.py .venv-newest --newest
	@.venv-newest/bin/python -m pytest $(PARALLEL)

# Write requirements/lock.txt and build.txt anew: the newest of everything, with the hashes of all files of each release.
lock:
	@$(PYTHON) requirements/lock.py

clean:
	rm -rf $(VENV) $(VENV).lock .venv-newest .venv-newest.lock build dist *.egg-info
