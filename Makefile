# Every habit by name; `make` alone lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Bytecode is kept in the environment, also where nobody may write it beside the sources: without it each process that
# starts compiles a thousand modules first, a second of CPU.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache
export PYTHONDONTWRITEBYTECODE :=
UV := $(BIN)/uv
# What a change to the contract is compared with: nothing may break for whoever speaks that version.
PROTO_BASE ?= $(shell git rev-parse -q --verify origin/main || git rev-parse HEAD)
PROTOS := $(wildcard proto/lodestream_proto/v1/*.proto)

help: ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.venv/ready: requirements/bootstrap.lock requirements/dev.lock pyproject.toml proto/pyproject.toml evals/pyproject.toml sdk/pyproject.toml
	@echo "» setting up .venv from requirements/dev.lock (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e proto -e evals -e sdk -e .
	@touch $@

setup: .venv/ready ## make the locked environment

proto: .venv/ready ## generate proto/gen from the .proto files
	@rm -rf proto/gen/lodestream_proto && mkdir -p proto/gen/lodestream_proto/v1
	@cd proto && PATH="$(CURDIR)/$(BIN):$$PATH" python -m grpc_tools.protoc -I . --python_out=gen --grpc_python_out=gen \
	    --mypy_out=quiet:gen --mypy_grpc_out=quiet:gen $(PROTOS:proto/%=%)
	@touch proto/gen/lodestream_proto/__init__.py proto/gen/lodestream_proto/v1/__init__.py proto/gen/lodestream_proto/py.typed

check: check-quick ## format, lint, spelling, migrations, types, import rules, the contract, the tree's own rules, the documentation
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/buf breaking proto --against '.git#ref=$(PROTO_BASE),subdir=proto'
	@$(MAKE) --no-print-directory proto && git diff --exit-code --stat -- proto/gen
	@$(BIN)/pytest -q tests/architecture
	@$(MAKE) --no-print-directory docs

check-quick: .venv/ready ## the part of it that takes a second
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/ruff check --quiet --preview --select DOC102,DOC202,DOC403 sdk/src evals/src # what docstrings name is there
	@$(BIN)/typos
	@$(BIN)/squawk --reporter gcc shared/storage/migrations/*/*.sql
	@$(BIN)/buf lint proto && $(BIN)/buf format --diff --exit-code proto

hooks: .venv/ready ## have git run check-quick before each commit and check before each push
	@$(BIN)/prek install --quiet

fix: .venv/ready ## format, and mend what can be mended by itself
	@$(BIN)/ruff format --quiet . ; $(BIN)/ruff check --quiet --fix . ; $(BIN)/buf format -w proto

test: .venv/ready ## all tests, on real servers, in two processes (ARGS="-k name" to choose, WORKERS=0 for one)
	@$(BIN)/pytest -n $(or $(WORKERS),2) --dist worksteal $(ARGS)

test-fast: .venv/ready ## the tests that need no server, in two minutes (ARGS and WORKERS as for test)
	@$(BIN)/pytest -n $(or $(WORKERS),2) --dist worksteal -m "not servers and not slow" $(ARGS)

coverage: .venv/ready ## which lines and branches of the backend the unit tests run: a report, no gate
	@$(BIN)/coverage run -m pytest -q tests/unit $(ARGS) && $(BIN)/coverage report

matrix: .venv/ready ## run real packages in newest versions under the SDK and under opentelemetry-sdk (ARGS="-k django")
	@MATRIX=all $(BIN)/pytest sdk/tests/matrix $(ARGS)

.venv/mutants-ready: .venv/ready requirements/mutants.lock
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/mutants.lock
	@touch $@

mutants: .venv/mutants-ready ## put faults into a sample of what is pure: which do the unit tests find? (ARGS="--sample 1" takes all, hours)
	@$(BIN)/python -m tests.mutation $(ARGS)

torture: .venv/ready ## break everything for SECONDS= (60) on the schedule of SEED= (a random one), and judge what is left
	@$(BIN)/python -m tests.torture --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(ARGS)

up: .venv/ready ## start everything on this machine (ARGS=--ephemeral keeps nothing, ARGS=--servers-only)
	@$(BIN)/python -m services.all_in_one $(ARGS)

demo: .venv/ready ## start everything, trace a support assistant, compare its prompts; up until Ctrl-C (ARGS=--exit ends it)
	@$(BIN)/python -m services.all_in_one --run examples/rag_support.py --run examples/gold_dataset.py $(ARGS)

.venv/peers/ready: .venv/ready requirements/peers.lock
	@$(PYTHON) -m venv --without-pip .venv/peers
	@$(UV) pip install --quiet --python .venv/peers/bin/python --require-hashes -r requirements/peers.lock
	@touch $@

bench: .venv/peers/ready ## measure all on this machine, into docs/benchmarks.md (ARGS="--seconds 15 ingest" is shorter)
	@$(BIN)/python -m benchmarks $(ARGS)

asyncapi: .venv/ready ## write docs/asyncapi-*.json, what each reader of the log reads
	@for folder in $(patsubst %/__main__.py,%,$(wildcard services/projections/*/__main__.py) services/write/evaluator/__main__.py); do \
	    $(BIN)/python -m $$(echo $$folder | tr / .) --asyncapi > docs/asyncapi-$$(basename $$folder).json; done

.venv/docs-ready: .venv/ready requirements/docs.lock
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/docs.lock
	@touch $@

docs: .venv/docs-ready ## build the documentation into .docs/site, and fail for dead links
	@$(BIN)/python docs/site/build.py

lock: .venv/ready ## resolve the dependencies anew into requirements/*.lock
	@sh requirements/lock.sh

.PHONY: help setup proto check check-quick hooks fix test test-fast coverage mutants matrix torture up demo bench asyncapi docs lock
