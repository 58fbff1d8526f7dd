# make help lists the targets. Each makes the environment first, or finds it complete.
SHELL := bash -o pipefail

# Folder of the environment, and how many tests run at once.
export ADPE_ENV ?= $(CURDIR)/.venv
JOBS ?= 2
# More arguments for pytest, as in: make test ARGS='-m "not slow" -k irpe'
ARGS ?=

# Clones may share an environment. What runs here is always this clone's code.
activate = source "$(ADPE_ENV)/bin/activate" && export PYTHONPATH="$(CURDIR)"
shell_scripts = find . -path './.?*' -prune -o -name '*.sh' -print0

.DEFAULT_GOAL := help
.PHONY: help setup demo mini-benchmark test docs tutorial lint format lock matrix clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## Make the environment in .venv, or in $ADPE_ENV
	@bash tools/setup_env.sh

demo: setup  ## Pretrain on small drawn scenes, transfer to three tasks, report
	@$(activate) && bash tools/demo.sh

mini-benchmark: setup  ## Compare scratch, MAE, MAE+ and AdPE on three tasks (hours)
	@$(activate) && bash tools/benchmarks/mini.sh

test: setup  ## Run all tests
	@$(activate) && OMP_NUM_THREADS=1 python -m pytest -q -n $(JOBS) $(ARGS)

docs: setup  ## Make the documentation, in docs/_build/html
	@$(activate) && python -m sphinx -q -W --keep-going docs docs/_build/html \
	&& echo 'docs: docs/_build/html/index.html'

tutorial: setup  ## Run the notebook of the tutorial anew, for the outputs that it shows (minutes)
	@$(activate) && jupyter execute --inplace --timeout=3600 docs/tutorial.ipynb

lint: setup  ## Check style, shell scripts and spelling
	@$(activate); failed=0; \
	ruff check . || failed=1; \
	ruff format --check . || failed=1; \
	$(shell_scripts) | xargs -0 shellcheck .ci/run || failed=1; \
	codespell || failed=1; \
	exit $$failed

format: setup  ## Format the code
	@$(activate) && ruff check --fix . && ruff format .

# CUDA's libraries stay out: they belong to one build of torch, which names them itself.
lock: setup  ## Write requirements/lock.txt anew, with the newest versions that fit
	@$(activate) && { sed '/^# *===/q' requirements/lock.txt; \
	uv pip compile -q --universal --fork-strategy fewest --python-version 3.10 --no-annotate \
	  --no-header --override requirements/lock_overrides.txt requirements/lock.in \
	  | grep -vE '^(nvidia-|cuda-|triton=)' \
	  | sed "s/ ; python_full_version < '3.11'.*/; python_version < \"3.11\"/; s/ ; .*//"; } \
	  > requirements/lock.new && mv requirements/lock.new requirements/lock.txt

matrix: setup  ## Run all tests with the oldest, the locked and the newest libraries (an hour)
	@$(activate) && bash tools/test_matrix.sh

clean:  ## Remove what builds and tests leave behind
	rm -rf build dist docs/_build *.egg-info adpe_mm/.mim .pytest_cache .ruff_cache .hypothesis
	find . -path './.?*' -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
