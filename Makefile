# Every task of this repository. `make` alone lists them; each is quick the second time.

PYTHON        ?= python3
# The torch release that the tests and the samples were made with. On Linux its default build
# brings CUDA; `make env TORCH_INDEX=https://download.pytorch.org/whl/cpu` takes the small one.
TORCH_VERSION ?= 2.13.0
TORCH_INDEX   ?=
ARGS          ?=
SAVE          ?=
MINUTES       ?= 30
TRIALS        ?= 200
EVENTS        ?= 1e5,1e6,1e7
RANKS         ?= 8,64,1024
# Processes at once, of tests and of mypy. Many tests wait for processes or a browser; files stay
# together, so that a browser or a recorded run is shared by the tests of its file, in the order
# that tests/conftest.py gives them.
JOBS          ?= 2

# Containers like to set it. Each of the thousand processes that the tests start would then compile
# torch and all else that it imports: 6 s in place of 0.
unexport PYTHONDONTWRITEBYTECODE

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
FRAMEWORKS := $(VENV)/.frameworks

.DEFAULT_GOAL := help
.PHONY: help env frameworks browser test check format demo dashboard faults soak bench scale samples screenshots readme clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 22

# Python compiles a module when it is first imported: most of these never are, which saves a minute.
env: $(READY) ## make the Python environment in .venv

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Rankscope needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	       "name another: make env PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; }
	@echo "Making the environment in $(VENV): some minutes, once."
	@export PIP_DISABLE_PIP_VERSION_CHECK=1; set -x; \
	  $(BIN)/python -m pip install --quiet --no-compile $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==$(TORCH_VERSION) && \
	  $(BIN)/python -m pip install --quiet --no-compile -e '.[test,check,gpu,bench]'
	@touch $@

# Their tests need them; nothing else does. DeepSpeed would compile its kernels here otherwise.
$(FRAMEWORKS): $(READY)
	@echo "Adding the training frameworks to $(VENV): a minute, once."
	@export PIP_DISABLE_PIP_VERSION_CHECK=1 DS_BUILD_OPS=0; \
	  $(BIN)/python -m pip install --quiet --no-compile torch==$(TORCH_VERSION) -e '.[frameworks]' || \
	  echo "Some framework does not install here: its tests will be skipped." >&2; \
	  $(BIN)/python -m pip install --quiet --no-compile torch==$(TORCH_VERSION) -e '.[fuzz]' || \
	  echo "atheris does not install here: coverage-guided fuzzing will be skipped." >&2
	@touch $@

browser: ## install Chromium for the browser tests, if there is none
	@scripts/install-chromium

frameworks: $(FRAMEWORKS) ## add Lightning, Transformers, DeepSpeed, Megatron-Core and torchtitan

test: env frameworks browser ## run all tests (ARGS="-k timeline" selects)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: env ## ruff, mypy --strict, import-linter, oxlint, changelog
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers $(JOBS)
	$(BIN)/lint-imports
	$(BIN)/oxlint --deny-warnings dashboard/assets
	$(BIN)/python scripts/check_changelog.py

format: env ## let ruff format the code and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: env ## record a real 4-process run, report on it, open the dashboard (ARGS=--no-serve: no dashboard)
	@$(BIN)/python scripts/demo.py $(ARGS)

dashboard: env ## open the dashboard on the sample traces
	$(BIN)/rankscope dashboard $(ARGS) $(dir $(wildcard sample_traces/*/run.json))

faults: env ## make everything fail in turn, kill ranks at random instants (TRIALS=200; minutes)
	$(BIN)/python -m tests.reliability.injection $(ARGS)
	$(BIN)/python -m tests.reliability.kills --trials $(TRIALS)

soak: env ## record at the full event rate for MINUTES=30: memory, files, the drop counter
	$(BIN)/python -m tests.reliability.soak --minutes $(MINUTES) $(ARGS)

bench: env ## run benchmarks/, beside peers, and say which goals are reached (SAVE=FILE.jsonl): ten minutes
	@$(BIN)/python -m benchmarks --save $(or $(SAVE),runs/bench.jsonl) $(ARGS)

scale: env browser ## how time and memory grow (EVENTS=1e5,1e6,1e7 RANKS=8,64,1024 SAVE=FILE.jsonl): 20 minutes at most
	@mkdir -p runs
	@$(BIN)/python -m benchmarks.scale --events $(EVENTS) --ranks $(RANKS) --plot runs/scale.svg \
	  --save $(or $(SAVE),runs/scale.jsonl) $(ARGS)

samples: env ## record sample_traces/ anew (two minutes; best on an idle machine)
	$(BIN)/python sample_traces/record.py $(ARGS)

screenshots: env browser ## take the pictures in docs/images/ anew
	$(BIN)/python scripts/screenshots.py $(ARGS)

readme: env ## write the output in README.md, the answers in docs/queries.md and the pictures of docs/concepts.md anew
	$(BIN)/python scripts/update_readme.py
	$(BIN)/python scripts/update_queries.py
	$(BIN)/python -m scripts.concept_pictures

clean: ## remove the environment, caches and runs/
	rm -rf $(VENV) runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
	  .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
