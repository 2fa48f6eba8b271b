# `make` alone lists the targets. Every target works in a fresh clone, because the scripts find or
# install everything except Rust.

MIDDLEWARE = --no-default-features --features middleware
REMOTE = --no-default-features --features remote

.DEFAULT_GOAL := help
.PHONY: help run test test-cluster test-upgrade bench lint audit sqlx openapi docs check-openapi fuzz fuzz-http

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

run: ## start a demo server with two platforms; ARGS="..." passes arguments to the server
	scripts/ensure-postgres.sh
	cargo run --release --locked -- demo $(ARGS)

test: ## run every test: the crate, the model checker, the walks of README and the book, the example bot, clients of rate limits
	scripts/ensure-postgres.sh
	scripts/ensure-python.sh tests/requirements.txt
	scripts/ensure-chromium.sh
	scripts/ensure-axe.sh
	scripts/ensure-nginx.sh
	scripts/ensure-pgbouncer.sh
	scripts/ensure-openssl.sh
	scripts/ensure-faketime.sh
	cargo test --locked
	cargo test --locked --features model --test model
	cargo check --locked $(MIDDLEWARE)
	cargo check --locked $(REMOTE)
	scripts/walk.sh
	scripts/bot-test.sh
	scripts/check-rate-limit-clients.sh

test-cluster: ## run two nodes on a Patroni cluster that fails over, behind HAProxy and PgBouncer; Debian and Ubuntu only
	scripts/test-cluster.sh

test-upgrade: ## upgrade running nodes from the previous version to this tree, one after another, under load
	scripts/test-upgrade.sh

bench: ## compare a release build with other programs, and write bench/results.md; BENCH_BASE=<commit> also compares with that commit
	bench/run.sh

lint: ## check formatting, clippy, the documentation, and the dependencies' licences and sources
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked $(MIDDLEWARE) --lib --example foreign_service -- -D warnings
	cargo clippy --locked $(REMOTE) --lib --example remote_gate -- -D warnings
	cargo clippy --locked --features model --test model -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --quiet
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --quiet $(MIDDLEWARE)
	scripts/check-dependencies.sh

audit: ## look for dependencies with known vulnerabilities; needs a network
	scripts/check-dependencies.sh advisories

sqlx: ## regenerate .sqlx/, after a change to a query or a migration
	scripts/with-postgres.sh scripts/sqlx-prepare.sh

openapi: ## regenerate docs/openapi.json
	cargo run --locked --quiet -- openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

docs: ## build the book in docs/ into docs/book/
	cargo build --locked
	scripts/build-docs.sh

check-openapi: ## lint docs/openapi.json, generate clients from it, and type-check them
	scripts/check-openapi.sh

fuzz: ## run each fuzz target for a minute, or for SECONDS=...; needs a nightly toolchain
	scripts/fuzz.sh $(SECONDS)

fuzz-http: ## send a demo server requests that its OpenAPI document allows, and requests that it forbids
	scripts/schemathesis.sh
