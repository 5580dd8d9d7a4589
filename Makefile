VENV := .venv
BIN  := $(VENV)/bin
CONSTRAINTS := docker/constraints.txt

# torch first and exact, so that nothing installed later chooses another build. PyPI's build for Linux includes CUDA
# (gigabytes); TORCH_INDEX=https://download.pytorch.org/whl/cpu installs the small one, when .venv is made.
$(VENV)/ready: pyproject.toml $(CONSTRAINTS) docker/references.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(shell grep '^torch==' $(CONSTRAINTS))
	$(BIN)/pip install --quiet -c $(CONSTRAINTS) -e '.[dev]'
	$(BIN)/pip install --quiet -c $(CONSTRAINTS) --no-deps -r docker/references.txt
	touch $@

PYTEST := $(BIN)/python -m pytest
# One worker more than there are cores, at most 4: many tests wait for processes of their own. One file per
# worker at a time, in the order that tests/conftest.py gives: longest first.
WORKERS ?= $(shell cores=$$(nproc); echo $$((cores < 4 ? cores + 1 : 4)))
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: run test test-all check fuzz crash bench image learn fidelity docs tutorials clean help
help:                       ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 10

run: $(VENV)/ready          ## a small run: toy data, offline training, handover, online training, report
	$(BIN)/off2on data add toy-pendulum --if-missing
	rm -rf build/run
	$(BIN)/off2on train iql toy-pendulum --updates 6k --online 3k --strategy symmetric --out build/run

test: $(VENV)/ready         ## the quick tests, in minutes: all but those marked slow
	$(PYTEST) $(PARALLEL) -m 'not slow and not learning and not bench and not image and not crash'

test-all: $(VENV)/ready     ## every test that needs no GPU and no download
	$(PYTEST) $(PARALLEL)

check: $(VENV)/ready        ## what a commit must pass: format, lint, types, order of imports, test-all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test-all

fuzz: $(VENV)/ready         ## give damaged files to every reader, thousands of each kind (half an hour)
	OFF2ON_FUZZ=$${OFF2ON_FUZZ:-2000} $(PYTEST) $(PARALLEL) tests/fuzz

crash: $(VENV)/ready        ## kill every kind of process at 20 random moments, and compare what is resumed (hours)
	OFF2ON_KILLS=$${OFF2ON_KILLS:-20} $(PYTEST) -m crash tests/crash

# One file of it: make bench BENCH=tests/bench/test_updates.py
BENCH ?= tests/bench
bench: $(VENV)/ready        ## measure speed, as ratios to other packages in the same run (a quiet machine)
	$(PYTEST) -m bench -s $(BENCH)

image:                      ## build the container, for this machine or docker/compose.yaml
	docker build -f docker/Dockerfile -t off2on:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) .

learn: $(VENV)/ready        ## compare every algorithm's score to its data's return, several seeds (hours)
	OFF2ON_LEARNING=tests/learning/scores.csv $(BIN)/python -m pytest -m learning -s

fidelity: $(VENV)/ready     ## compare every loss to a reference; writes fidelity.csv and platform/docs/algorithms.md
	rm -f platform/off2on/algorithms/fidelity.csv
	OFF2ON_FIDELITY=write $(BIN)/python -m pytest tests/fidelity -q --deselect tests/fidelity/test_table.py

docs: $(VENV)/ready         ## build the site of platform/docs into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f platform/mkdocs.yml

# One of them: make tutorials TUTORIALS=01_first_run
tutorials: $(VENV)/ready    ## execute the notebooks of platform/docs/tutorials and write their outputs
	$(BIN)/python platform/docs/generate/tutorials.py $(TUTORIALS)

clean:                      ## remove what the targets above made, but the data set, which runs of yours may use
	rm -rf $(VENV) build
