# Everything runs inside .venv in this folder. `make help` lists what there is.

PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# Airflow's dependencies are none of the project's.
AIRFLOW := .venv-airflow
WAYS_IN := .ways-in
STAMP := $(VENV)/.set-up
# Ray, Spark and DeepSpeed look for their tools on the path; transformers shall not try to reach a hub.
RUN := PATH="$(BIN):$$PATH" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
PYTEST := $(RUN) python -m pytest tests --numprocesses 2 --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo evaluate test test-slow lint check format wheel stages browser-check notebooks standalone newcomer airflow ways-in \
  bundle-schema clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## environment, sample data and models, once

$(STAMP): setup.py constraints.txt cesrec_core/local_setup.py cesrec_core/local_java.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and none was found. Try: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -P cesrec_core/local_java.py
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (about 7 GB, most of it PyTorch) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[spark,training,demo,dev]'
	@$(BIN)/python -m cesrec_core.local_setup
	@touch $(STAMP)

demo: $(STAMP) ## the nightly job on MovieLens-100K: minutes the first time, seconds when nothing changed
	@$(RUN) spark-submit jobs/nightly_refresh.py

evaluate: $(STAMP) ## quality of the demo's models on held-out items, with intervals
	@$(RUN) spark-submit jobs/evaluate.py

test: $(STAMP) ## the test suite, but for what takes long
	@$(PYTEST) -m "not slow"

test-slow: $(STAMP) ## the rest of the test suite: more nights, trainings, what kills processes
	@$(PYTEST) -m slow

lint: $(STAMP) ## formatting, lint, types and architecture
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy
	@$(RUN) lint-imports

check: lint test test-slow ## everything that must pass before a commit

format: $(STAMP) ## put the code into the project's format
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

wheel: $(STAMP) ## build dist/*.whl for executors and workers
	@rm -rf build dist
	@$(RUN) python -m pip wheel --quiet --no-deps --wheel-dir dist .

browser-check: $(STAMP) ## the page of a run in Chromium, light and dark, phone and desktop; PAGE=FILE for one of your own; SHOTS=FOLDER keeps pictures
	@$(RUN) python tests/browser/check_page.py $(PAGE) $(if $(SHOTS),--shots $(SHOTS))

notebooks: $(STAMP) ## notebooks/ from the first to the last on a tiny world, checked against its tables; OUT=FOLDER keeps what they show
	@$(RUN) python tests/notebooks/nights_in_notebooks.py $(if $(OUT),--out $(OUT))

stages: $(STAMP) ## the night of a tiny world stage by stage, as a scheduler runs it, beside the nightly job: many minutes
	@$(RUN) python -m pytest tests/end_to_end/stage_by_stage.py

standalone: $(STAMP) ## a tiny night from the wheel on a Spark master with two workers, Ray on them; MLflow, export; PAGE=FILE keeps its page
	@$(RUN) python tests/orchestration/standalone.py $(if $(PAGE),--page $(PAGE))

newcomer: $(STAMP) ## README's commands for data of one's own, as they stand there, on data made up for it
	@$(RUN) python tests/orchestration/newcomer.py

airflow: $(STAMP) $(AIRFLOW)/.set-up ## conf/airflow in a real Airflow, a night of single stages; AGAINST=nightly compares every table
	@$(RUN) ruff check --select AIR3 conf/airflow
	@$(RUN) $(AIRFLOW)/bin/python tests/orchestration/run_dags.py $(if $(AGAINST),--against-$(AGAINST))

ways-in: $(STAMP) $(AIRFLOW)/.set-up ## notebooks and airflow side by side, then browser-check of the page that the notebooks' night wrote
	@rm -rf $(WAYS_IN)
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target airflow notebooks OUT=$(WAYS_IN)
	@$(MAKE) --no-print-directory browser-check PAGE=$(WAYS_IN)/second_night.html

bundle-schema: $(STAMP) ## databricks.yml against what the Databricks CLI prints as `bundle schema`; SCHEMA=FILE where it was fetched
	@$(RUN) python tests/orchestration/bundle_schema.py $(if $(SCHEMA),--schema $(SCHEMA))

$(AIRFLOW)/.set-up: conf/airflow/requirements.txt
	@$(PYTHON) -m venv --clear $(AIRFLOW)
	@echo "Installing Airflow into $(AIRFLOW) ..."
	@$(AIRFLOW)/bin/python -m pip install --quiet --disable-pip-version-check --requirement conf/airflow/requirements.txt
	@touch $@

clean: ## remove build leftovers and .venv-airflow; keeps .venv and warehouse
	rm -rf build dist .ways-in .venv-airflow *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
