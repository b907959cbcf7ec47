# Postwarden's development commands. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A file's tests stay together, for many share a server that is dear to start. The end-to-end tests mostly wait: they have one process
# more than there are cores (e2e/harness/distribution.py); more than four would only start more API servers.
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist loadfile

SECONDS ?= 60
FUZZ_TARGETS := engine proxy_header dns_reply mta_replies

.PHONY: help setup demo test unit fuzz fuzz-short e2e e2e-cluster bench bench-regress bench-control bench-telemetry bench-leak lint generate check-generated images lock clean
help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## make .venv with postwarden and all that it is developed with

# A new lock file or a new pyproject.toml installs anew; --no-deps, for the lock file has them all with their hashes.
$(VENV)/.installed: requirements/dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Postwarden needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { echo "On Debian and Ubuntu this is mended by: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup  ## see it work: sample clients of every kind against a screened mail server, on this machine
	$(BIN)/postwarden demo

test: setup lint unit fuzz-short e2e  ## all checks and tests; starts real programs for the end-to-end tests

unit: setup  ## the fast tests
	$(BIN)/pytest tests $(PARALLEL)

fuzz: setup  ## look for inputs that break what reads from the network: make fuzz SECONDS=600 (for each target)
	@for target in $(FUZZ_TARGETS); do $(BIN)/python fuzz/run.py $$target --seconds $(SECONDS) || exit 1; done

fuzz-short: setup  ## the same inputs for each target, some seconds in all
	@$(BIN)/python -c 'import atheris' 2>/dev/null || { echo "atheris has no build for this machine: the corpus is replayed by make unit, nothing more is tried"; exit 0; }; \
	for target in $(FUZZ_TARGETS); do $(BIN)/python fuzz/run.py $$target --runs 3000 > $(VENV)/fuzz.log 2>&1 || { cat $(VENV)/fuzz.log; exit 1; }; echo "$$target: nothing found"; done

e2e: setup  ## the tests with real Postfix and a real API server (builds them once, in a cache outside this tree)
	$(BIN)/pytest e2e $(PARALLEL) --reruns 1 --rerun-show-tracebacks

e2e-cluster: setup  ## those in a real cluster of one node alone; with POSTWARDEN_E2E_KUBECONFIG in kind's, for instance
	$(BIN)/pytest e2e/cluster

images:  ## build the images of operator and sidecar with docker, podman or buildah (images/build.sh tells its variables)
	images/build.sh

bench: setup  ## measure the data path beside postscreen, HAProxy and a C loop; the last line is JSON (ARGS="--quick --case access-drop")
	PYTHONPATH=.:e2e:tests $(BIN)/python -m bench $(ARGS)

bench-regress: setup  ## fail where a connection takes over 15 % more CPU than the committed baseline, beside the C loop (3 minutes)
	PYTHONPATH=.:e2e:tests $(BIN)/python -m bench.regress $(ARGS)

bench-control: setup  ## measure the operator with 1,000 sidecars and policies and 10,000 pods; the last line is JSON (some 6 minutes)
	PYTHONPATH=.:e2e:tests $(BIN)/python -m bench.control $(ARGS)

bench-telemetry: setup  ## measure what telemetry costs a connection, with OTLP endpoints that are dead, slow and live; the last line is JSON
	PYTHONPATH=.:e2e:tests $(BIN)/python -m bench.telemetry $(ARGS)

bench-leak: setup  ## play a million clients of every kind and see that no descriptor and no memory stays; the last line is JSON (some 10 minutes)
	PYTHONPATH=.:e2e:tests $(BIN)/python -m bench.leak $(ARGS)

lint: setup  ## ruff, mypy, import contracts, the wire contract, generated files up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy operator/postwarden_operator sidecar/postwarden_sidecar proto/postwarden/telemetry cli/postwarden_cli tests fuzz charts hatch_build.py
	$(BIN)/mypy e2e bench dashboards/postwarden_dashboards
	$(BIN)/lint-imports
	cd proto && ../$(BIN)/buf lint && ../$(BIN)/buf breaking --against ../tests/data/released
	@$(MAKE) --no-print-directory check-generated

# Into a folder laid out like this one: protobuf code, CRD (also the chart's), the chart's README, editors' schema, reference tables,
# dashboards, alert rules and their page.
define generate_into
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto --python_out=$(1)/proto --pyi_out=$(1)/proto --grpc_python_out=$(1)/proto --mypy_grpc_out=quiet:$(1)/proto proto/postwarden/screening/v1/screening.proto
	$(BIN)/python -m postwarden_operator.policy.generate $(1)
	$(BIN)/python charts/readme.py $(1)
	PYTHONPATH=dashboards $(BIN)/python -m postwarden_dashboards.generate $(1)
endef

generate: setup  ## write anew what is generated: protobuf code, CRD, reference tables, dashboards, alerts
	$(call generate_into,.)
	$(BIN)/python -m postwarden_sidecar.telemetry.reference docs/reference/telemetry.md
	$(BIN)/python -m postwarden_operator.telemetry.reference docs/reference/operator-telemetry.md
	$(BIN)/python -m postwarden_operator.inject.reference docs/injection.md

check-generated: setup  ## what is generated is up to date
	@rm -rf $(VENV)/generated && mkdir -p $(VENV)/generated/proto
	$(call generate_into,$(VENV)/generated)
	@cd $(VENV)/generated && find . -type f | while read -r file; do diff -u "../../$$file" "$$file" || { echo "$$file is out of date: run make generate" >&2; exit 1; }; done

UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

# dev.lock has all; the images have what they need of it, at the same versions.
lock: $(VENV)/.installed  ## pin all dependencies anew, with hashes, for every platform
	$(BIN)/python -m pip install --quiet uv
	$(UV_COMPILE) --all-extras --output-file requirements/dev.lock pyproject.toml requirements/build.in
	for part in operator sidecar; do $(UV_COMPILE) --constraint requirements/dev.lock --extra $$part --output-file requirements/$$part.lock pyproject.toml || exit 1; done
	echo hatchling | $(UV_COMPILE) --constraint requirements/dev.lock --output-file requirements/build.lock -
	printf 'hatchling\nmypy\nsetuptools\n' | $(UV_COMPILE) --constraint requirements/dev.lock --output-file requirements/compile.lock -
	@! grep -E 'https?://|index-url' requirements/*.lock

clean:  ## remove what `make setup` made
	rm -rf $(VENV)
