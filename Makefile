# Every target sets up what it needs. A machine with make, git and Python 3.11 or newer is enough; uv is used if present.

PYTHON ?= python3

VENV_3 := .venv-3.3
VENV_2 := .venv-2.11
VENV_BENCH := .venv-bench
VENV_DRT := .venv-drt
PYTHON_3 := $(VENV_3)/bin/python
PYTHON_2 := $(VENV_2)/bin/python
INPUTS := pyproject.toml airflow_provider_popin/__init__.py scripts/venv.sh

# Airflow 2.11 does not run on Python 3.13 and newer: another Python on the PATH is taken, if there is one.
PYTHON_FOR_2 = $(shell bash scripts/python_for_airflow_2.sh "$(PYTHON)")

# make bench QUICK=1
QUICK ?=
# Options for pytest: make test PYTEST='-k slots -x'
PYTEST ?=
# Processes wait for servers half of their time, so more of them than cores; each has an Airflow and a Postgres of its
# own, so not many more.
PARALLEL := --numprocesses 4 --dist worksteal
# What waits for a whole Airflow, or installs one, takes longer than pytest gives a test that hangs, has deadlines of its
# own, and would be left running.
PATIENT := --override-ini=faulthandler_timeout=1800
# make demo LEADS=leads.csv FIELD_MAP='{"lead_id": "Id", "name": "Name", "mobile": ["Phone 1", "Phone 2"]}' REGION=US
LEADS ?=
FIELD_MAP ?=
REGION ?=
export LEADS FIELD_MAP REGION
# make soak MINUTES=30
MINUTES ?= 10
# make load-test RATE=400 SECONDS=20
RATE ?= 200
SECONDS ?= 10
# make up PORT=8090 SANDBOX_PORT=8091
PORT ?= 8080
SANDBOX_PORT ?= 8081

# Our servers are on this machine: a proxy of the user's would not find them. Sorted, each stands there once, also
# where make calls make.
comma := ,
empty :=
export no_proxy := $(subst $(empty) ,$(comma),$(sort 127.0.0.1 localhost $(subst $(comma), ,$(no_proxy) $(NO_PROXY))))
export NO_PROXY := $(no_proxy)
# From LANG=C Python goes to UTF-8 by itself; with LC_ALL=C it cannot start where a folder's name is not ASCII.
ifneq ($(filter C POSIX,$(LC_ALL)),)
unexport LC_ALL
endif

.PHONY: help demo up distributed bench soak load-test test check format lint types test-3.3 test-2.11 coverage wheel-test test-scheduler constraints chart-library clean

help:  ## This list
	@grep -hE '^[a-z0-9.-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

demo: $(VENV_3)/.installed  ## Book a sample CRM's leads in a local sandbox; LEADS=file.csv FIELD_MAP=json for your own
	@$(PYTHON_3) -m scripts.demo $(if $(LEADS),--leads "$$LEADS") $(if $(FIELD_MAP),--field-map "$$FIELD_MAP") \
		$(if $(REGION),--region "$$REGION")

up: $(VENV_3)/.installed  ## Airflow's UI and scheduler on 127.0.0.1 with Dags, connections and sandbox; Ctrl-C ends it
	@$(PYTHON_3) -m scripts.up --port $(PORT) --sandbox-port $(SANDBOX_PORT)

distributed: $(VENV_3)/.distributed  ## Celery, Redis, Postgres, two workers, one killed: is anybody booked twice?
	@$(PYTHON_3) -m scripts.distributed

# QUICK=1: small runs that show that it works, in 3 minutes instead of 30; they are written to build/bench.
bench: $(VENV_BENCH)/.installed  ## Speed and memory beside other ways to do it; writes docs/benchmarks.md
	@$(VENV_BENCH)/bin/python -m benchmarks --drt $(VENV_DRT)/bin/python $(if $(QUICK),--quick --output build/bench)

soak: $(VENV_3)/.installed  ## Random faults and kills for MINUTES (10), on SQLite and Postgres; counts broken promises
	$(PYTHON_3) -m scripts.soak --minutes $(MINUTES)

load-test: $(VENV_3)/.installed  ## Webhooks at RATE (200/s) into Airflow's API server for SECONDS (10): how fast, any lost?
	@$(PYTHON_3) -m scripts.webhook_load --rate $(RATE) --seconds $(SECONDS)

test: test-3.3 test-2.11  ## The tests, on Airflow 3.3 and on 2.11

check: lint types test wheel-test  ## All that CI checks

format: $(VENV_3)/.installed  ## Format the code and repair what the linter can
	$(PYTHON_3) -m ruff check --fix-only .
	$(PYTHON_3) -m ruff format .

lint: $(VENV_3)/.installed  ## Format and lint, changing nothing
	$(PYTHON_3) -m ruff format --check .
	$(PYTHON_3) -m ruff check .

types: $(VENV_3)/.installed  ## mypy --strict
	$(PYTHON_3) -m mypy

test-3.3: $(VENV_3)/.installed  ## The tests on Airflow 3.3, every warning an error
	$(PYTHON_3) -m pytest $(PARALLEL) $(PYTEST)

test-2.11:  ## The tests on Airflow 2.11, our own warnings errors
	@if [ -n "$(PYTHON_FOR_2)" ]; then $(MAKE) --no-print-directory run-2.11; else \
		echo; echo '**********************************************************************'; \
		echo '**  SKIPPED: the tests on Airflow 2.11. It needs Python 3.11 or 3.12.  **'; \
		echo '**********************************************************************'; echo; fi

.PHONY: run-2.11
run-2.11: $(VENV_2)/.installed
	$(PYTHON_2) -m pytest $(PARALLEL) $(PYTEST)

# Not in check: measuring makes these tests take half as long again.
coverage: $(VENV_3)/.installed  ## The tests on Airflow 3.3; fails below 95 % of lines and branches
	$(PYTHON_3) -m pytest $(PARALLEL) --cov --cov-report=term $(PYTEST)

test-scheduler: $(VENV_3)/.installed  ## The examples under a whole Airflow with its scheduler; a task is killed in mid-run
	$(PYTHON_3) -m pytest $(PATIENT) -m scheduler tests/scheduler $(PYTEST)
	@[ -z "$(PYTHON_FOR_2)" ] || $(MAKE) --no-print-directory scheduler-2.11

# One after the other: they measure how long a stop takes.
.PHONY: scheduler-2.11
scheduler-2.11: $(VENV_2)/.installed
	$(PYTHON_2) -m pytest $(PATIENT) -m scheduler tests/scheduler $(PYTEST)

wheel-test: $(VENV_3)/.installed  ## Build the wheel, install it into empty environments, ask Airflow about it
	POPIN_PYTHON_FOR_AIRFLOW_2="$(PYTHON_FOR_2)" $(PYTHON_3) -m pytest $(PATIENT) -m wheel tests/packaging

constraints:  ## Resolve all dependencies anew and write constraints/ (needs uv)
	$(PYTHON) -m scripts.update_constraints

chart-library:  ## Take the newest Chart.js from npm for the page in Airflow's UI (needs npm); VERSION=4.6.1 for a certain one
	$(PYTHON) -m scripts.update_chart_library $(if $(VERSION),--version "$(VERSION)")

clean:  ## Remove the environments and everything else that make made
	rm -rf $(VENV_3) $(VENV_2) $(VENV_BENCH) $(VENV_DRT) .demo .up .distributed .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV_3)/.installed: constraints/airflow-3.3.txt $(INPUTS)
	@bash scripts/venv.sh $(VENV_3) $< "$(PYTHON)"
	@touch $@

$(VENV_3)/.distributed: $(VENV_3)/.installed constraints/distributed/airflow-3.3.txt
	@bash scripts/venv.sh $(VENV_3) constraints/airflow-3.3.txt "$(PYTHON)" \
		--constraint constraints/distributed/airflow-3.3.txt "apache-airflow-providers-celery[redis]"
	@touch $@

$(VENV_BENCH)/.installed: constraints/airflow-3.3.txt $(wildcard benchmarks/requirements/*.txt) benchmarks/venv.sh $(INPUTS)
	@bash benchmarks/venv.sh $(VENV_BENCH) $(VENV_DRT) $< "$(PYTHON)"
	@touch $@

$(VENV_2)/.installed: constraints/airflow-2.11.txt $(INPUTS)
	@bash scripts/venv.sh $(VENV_2) $< "$(PYTHON_FOR_2)"
	@touch $@
