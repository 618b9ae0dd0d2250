# Marvin's commands. `make run` and `make test` set up whatever they need; `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# Recipes and scripts must agree on where builds are, however cargo is configured.
export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
SERVER := $(CARGO_TARGET_DIR)/release/marvin

ADDRESS := $(or $(MARVIN_LISTEN),127.0.0.1:8080)
DATA := $(or $(MARVIN_DATA_DIR),./marvin-data)

CONSOLE := ui/dist/index.html
VENV := examples/.venv/installed
# npm writes this file last, so it is there only after an install that succeeded.
PACKAGES := ui/node_modules/.package-lock.json
CONSOLE_SOURCES := $(shell find ui \( -path ui/node_modules -o -path ui/dist \) -prune -o -type f -print)

.PHONY: help
help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: run
run: ## build Marvin and serve it at http://127.0.0.1:8080, data in ./marvin-data
	@echo 'Builds the console and the server, then serves at http://$(ADDRESS) with its data in $(DATA).'
	@echo 'The first build takes several minutes. Ctrl-C stops the server.'
	@.ci/need rust compiler
	@if .ci/need node; then $(MAKE) ui; \
	elif [[ -e $(CONSOLE) ]]; then echo 'Going on with the console as it was built before.'; \
	else echo 'Going on without the console: the API works, and its first page says how to get the console.'; fi
	@$(MAKE) server
	@exec $(SERVER) serve

.PHONY: test
test: ## install what is missing, then check and test everything; the last line is the count
	@.ci/test

.PHONY: kills
kills: ## kill server, worker, PostgreSQL and RabbitMQ 15 times each through 5,000 tasks; about ten minutes
	@.ci/need rust compiler nextest postgres rabbitmq
	@mkdir -p ui/dist
	RECOVERY_KILLS=15 RECOVERY_TASKS=5000 cargo nextest run --locked --profile kills --test recovery --no-capture

.PHONY: bench
bench: ## measure against references of the same run, and print one table of ratios; about ten minutes
	@.ci/need rust compiler postgres redis rabbitmq python
	@.ci/bench

.PHONY: services
services: ## run a private PostgreSQL, Redis and RabbitMQ until Ctrl-C, and print how to use them
	@.ci/need postgres redis rabbitmq
	@exec .ci/services show

.PHONY: lint
lint: packages ## check formatting, Rust and TypeScript without running a test
	@.ci/need rust compiler lints
	@mkdir -p ui/dist
	cargo fmt --all --check -- projections/src/*.rs
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo update --locked --quiet --workspace --manifest-path benches/peers/Cargo.toml
	cd ui && npm run check

# What a macro declares, as projections are, rustfmt does not find by itself.
.PHONY: fmt
fmt:
	@.ci/need rust lints
	cargo fmt --all -- projections/src/*.rs

.PHONY: ui
ui: $(CONSOLE) ## build the web console into ui/dist
	@:

.PHONY: release
release: ui server ## build the server with its console, as it is deployed
	@echo "Built $(SERVER), $$($(SERVER) --version)."

.PHONY: deny
deny: ## check what Marvin is built from: licences, origins, known holes
	@.ci/need rust cargo-deny
	cargo deny check

.PHONY: clean
clean: ## delete everything that was built or installed here, and no data
	cargo clean
	rm -rf target ui/dist ui/node_modules examples/.venv

.PHONY: server
server:
	@.ci/need rust compiler
# Cargo takes a directory that is watched but missing for changed, and would build the server anew each time.
	@mkdir -p ui/dist
	cargo build --release --locked --bin marvin

.PHONY: packages
packages: $(PACKAGES)
	@:

.PHONY: venv
venv: $(VENV) ## install what two of the examples need into examples/.venv
	@:

$(VENV): examples/requirements.txt
	@.ci/need python
	rm -rf examples/.venv
	python3 -m venv examples/.venv
	examples/.venv/bin/pip install --quiet --requirement examples/requirements.txt
	@touch $@

$(PACKAGES): ui/package.json ui/package-lock.json
	@.ci/need node
	cd ui && npm ci --no-audit --no-fund
	@touch $@

$(CONSOLE): $(PACKAGES) $(CONSOLE_SOURCES)
	@.ci/need node
	cd ui && npm run build
