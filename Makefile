# `make run` does everything, `make test` proves it; `make help` lists the verbs.
# Settings go in the environment, in .env, or after the verb: make offline DATA_DIR=~/my-ratings

PY := .venv/bin/python
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
# Those that every locked package has a wheel for; a newer one would have to compile some, if it can.
PYTHON_VERSIONS := >=3.11,<3.13
NEEDS_PYTHON := echo "error: Python 3.11 or 3.12 is needed: install one (Debian: apt install python3.11, or: uv python install 3.12)"; exit 1
# pandas, torch and Feast take seconds longer to import without their bytecode.
INSTALL := $(UV) pip install --quiet --compile-bytecode --require-hashes

# The status of `python -m services serving` when no web server responds, the one fault that a run cures.
NOT_SERVING := 3

.DEFAULT_GOAL := help
.PHONY: help install spark data offline services status load check promote rollback serve run cluster stop evaluate evaluate-offline drift bench retrain simulate experiment-report pictures test lint lock

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 26

install: .venv/.installed .venv-triton/.installed ## the two environments, from the lock files

.tools/bin/uv:
	python3 -m venv .tools || { echo "error: python3 -m venv fails; install it (Debian: apt install python3-venv) or install uv"; exit 1; }
	.tools/bin/python -m pip install --quiet uv

.venv/.installed: requirements.lock pyproject.toml | $(filter .tools/bin/uv,$(UV))
	$(UV) venv --quiet --clear --no-python-downloads --python '$(PYTHON_VERSIONS)' .venv || { $(NEEDS_PYTHON); }
	$(INSTALL) --python .venv -r requirements.lock
	$(UV) pip install --quiet --python .venv --no-deps --editable .
	touch $@

.venv-triton/.installed: services/triton-requirements.lock | $(filter .tools/bin/uv,$(UV))
	$(UV) venv --quiet --clear --no-python-downloads --python '$(PYTHON_VERSIONS)' .venv-triton || { $(NEEDS_PYTHON); }
	$(INSTALL) --python .venv-triton -r services/triton-requirements.lock
	touch $@

# Spark is installed for those who ask for it: it is larger than all else but torch.
WITH_SPARK := $(if $(filter spark,$(ENGINE)),.venv/.spark-installed)

.venv/.spark-installed: offline/engines/spark-requirements.lock .venv/.installed | $(filter .tools/bin/uv,$(UV))
	$(INSTALL) --python .venv -r offline/engines/spark-requirements.lock
	touch $@

spark: .venv/.spark-installed ## a Spark cluster on this machine: a master and two workers, for ENGINE=spark
	$(PY) -m services spark

data: install ## the three raw files, by DATASET or DATA_DIR
	$(PY) -m offline.preprocess.movielens

offline: data $(WITH_SPARK) ## all stages of offline/, redoing only what changed
	$(PY) -m offline

services: install ## the four servers, started and ready
	$(PY) -m services start

status: install ## which servers are ready
	$(PY) -m services status

load: install $(WITH_SPARK) ## all loaders of offline_to_online/
	$(PY) -m offline_to_online

check: install ## the consistency check over every user
	$(PY) -m offline_to_online.rank.s3_check_offline_and_online

promote: install ## serves another version of the ranking model: VERSION=3; without one, lists the versions
	$(PY) -m offline_to_online.rank.promote $(if $(VERSION),--version '$(VERSION)')

rollback: install ## serves the version of the ranking model that was served before
	$(PY) -m offline_to_online.rank.promote --rollback

serve: install ## the web server, in the background
	$(PY) -m services serve

run: install ## everything: install, data, offline, services, load, check, serve
	$(MAKE) --no-print-directory offline
	$(MAKE) --no-print-directory services
	$(MAKE) --no-print-directory load
	$(MAKE) --no-print-directory check
	$(MAKE) --no-print-directory serve
	$(PY) -m online.main.s2_client --size 10

cluster: export TOPOLOGY = cluster
cluster: offline ## several nodes of each service on this machine: starts those that are missing, loads them if need be
	$(PY) -m services start
	$(PY) -m offline_to_online --unless-loaded
	$(PY) -m services serve

evaluate: install ## how good the lists are, through the server: report and charts in .run/
	@$(PY) -m services serving; status=$$?; \
	if [ $$status = $(NOT_SERVING) ]; then echo "so everything is run first"; $(MAKE) --no-print-directory run; \
	else exit $$status; fi
	$(PY) -m benchmarks.quality.evaluate

evaluate-offline: install ## the same on the artefacts alone, without a server
	$(PY) -m benchmarks.quality.evaluate --offline

drift: install ## whether what is served has drifted from what was trained: report in .run/, shown on the page
	$(PY) -m benchmarks.quality.drift

bench: install ## how fast everything is, on a stack of its own: report in .run/
	$(PY) -m benchmarks.speed.bench

retrain: install ## fits again to ratings and events, promotes what is not worse and loads it
	$(PY) -m benchmarks.loop.retrain

simulate: install ## three rounds of the loop with the generator's users, on a stack of its own: report in .run/
	$(PY) -m benchmarks.loop.simulate

experiment-report: install ## what the experiments of EXPERIMENTS_FILE show by now, from the drained log
	$(PY) -m online_to_offline.s1_log_to_tables
	$(PY) -m online_to_offline.s2_training_rows
	$(PY) -m benchmarks.quality.experiments

pictures: install ## the readmes' charts in pic/, from the reports of the default data set
	$(PY) -m benchmarks.quality.charts --publish

stop: ## stops what was started, and nothing else
	@if [ -x $(PY) ]; then $(PY) -m services stop; fi

test: install .venv/.spark-installed .chromium .nginx ## all tests, on real servers too
	$(PY) -m pytest

# The page is tested in a real browser: installed where this may be done without asking, else left out by its tests.
.PHONY: .chromium
.chromium:
	@if ! command -v chromium google-chrome >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get install -y -qq chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || true; \
	fi

# The cluster has it in front; installed in the same way.
.PHONY: .nginx
.nginx:
	@if ! PATH="$$PATH:/usr/sbin" command -v nginx >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get install -y -qq nginx-light >/dev/null || { apt-get update -qq && apt-get install -y -qq nginx-light >/dev/null; } || true; \
	fi

lint: install ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

lock: | $(filter .tools/bin/uv,$(UV)) ## pins the dependencies again
	for name in requirements services/triton-requirements offline/engines/spark-requirements; do \
		$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $$name.txt -o $$name.lock; \
	done
