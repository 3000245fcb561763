# make train [EXAMPLE=tuned_examples/X.yaml]   train, then compare with rule-based dispatchers on held-out episodes
# make test [TEST_WORKERS=2]                   run the tests, files side by side in so many processes
# make soak [MINUTES=60]                       train with runners, learners and nodes failing; writes docs/soak.md
# make lint                                    check format, style and types
# make clean                                   remove .venv, caches and build products; results in runs/ stay
# Each does all the set-up itself, in .venv. PYTHON=... picks the interpreter.

EXAMPLE ?= tuned_examples/case118_mafql.yaml
EPISODES ?= 24
MINUTES ?= 60
TEST_WORKERS ?= 2
RIVALS ?= do_nothing proportional_zones qp_zones qp_n1
NAME = $(basename $(notdir $(EXAMPLE)))
BIN = .venv/bin
SOURCES = rllib_mafql envs tests

# The first of these that runs and is new enough (a name may exist and not run, as pyenv's do).
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: train test soak lint clean
.DELETE_ON_ERROR:

train: .venv/ready
	$(BIN)/rllib train file $(EXAMPLE) --storage-path runs --experiment-name $(NAME)
	$(BIN)/mafql evaluate runs/$(NAME) $(RIVALS) --episodes $(EPISODES) --out runs/$(NAME)/report

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --durations 40

soak: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.soak --minutes $(MINUTES) --markdown docs/soak.md --json docs/soak.json

lint: .venv/ready
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; install one, or name it with PYTHON=..." >&2; exit 1; }
	@echo "setting up .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info envs/*.egg-info
	rm -f envs/grid2op_zones/*.so
	find rllib_mafql envs tests -name __pycache__ -type d -prune -exec rm -rf {} +
