# `make` alone lists what there is to do. Every target runs in a fresh clone:
# what it needs besides Rust, the scripts look for and install.

MIDDLEWARE = --no-default-features --features middleware
REMOTE = --no-default-features --features remote

.DEFAULT_GOAL := help
.PHONY: help run test bench lint sqlx openapi check-openapi fuzz-http

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

run: ## start a demo server with two tenants; ARGS="..." are handed to it
	scripts/ensure-postgres.sh
	cargo run --release --locked -- demo $(ARGS)

test: ## every test: the crate, the README's walk, the example bot
	scripts/ensure-postgres.sh
	scripts/ensure-python.sh tests/requirements.txt
	scripts/ensure-chromium.sh
	scripts/ensure-axe.sh
	cargo test --locked
	cargo test --locked --features model --test model
	cargo check --locked $(MIDDLEWARE)
	cargo check --locked $(REMOTE)
	scripts/walk.sh
	scripts/bot-test.sh

bench: ## measure in release against others and against itself; writes bench/results.md; BENCH_BASE=<commit> compares with that commit
	bench/run.sh

lint: ## formatting, clippy, the documentation, and the dependencies' licences and sources
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked $(MIDDLEWARE) --lib --example foreign_service -- -D warnings
	cargo clippy --locked $(REMOTE) --lib --example remote_gate -- -D warnings
	cargo clippy --locked --features model --test model -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --quiet
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --quiet $(MIDDLEWARE)
	scripts/check-dependencies.sh

sqlx: ## write .sqlx/ anew, after a change of a query or a migration
	scripts/with-postgres.sh scripts/sqlx-prepare.sh

openapi: ## write docs/openapi.json anew
	cargo run --locked --quiet -- openapi > docs/openapi.json.new
	mv docs/openapi.json.new docs/openapi.json

check-openapi: ## lint docs/openapi.json, and generate and type-check clients
	scripts/check-openapi.sh

fuzz-http: ## send a running server what its OpenAPI document allows, and what it forbids
	scripts/schemathesis.sh
