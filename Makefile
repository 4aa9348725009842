# `make` alone lists what can be made.
.DEFAULT_GOAL := help
.PHONY: help setup build demo test crash-test fuzz bench lint dist clean

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## brings in compilers, ONNX Runtime and the model; at once when they are there
	@scripts/setup.sh tools runtime model

build: setup ## builds target/release/freshet; 10 to 20 minutes the first time, FAISS and librdkafka included
	cargo build --locked --release -p freshet

demo: build ## indexes sample documents and answers sample queries; no Kafka, no container
	@./scripts/demo.sh

test: ## runs every test, against a Kafka broker of its own unless KAFKA_BOOTSTRAP_SERVERS names one
	@scripts/test.sh

crash-test: ## kills the pipeline 200 times on files and on Kafka, and checks every answer; KILLS=N, FRESHET_CRASH_SEED=N
	@FRESHET_CRASH_KILLS=$${KILLS:-200} scripts/test.sh -p freshet --test crash -- --nocapture

fuzz: ## runs the fuzzers of what reads bytes from outside, FUZZ_SECONDS=60 each; needs cargo-fuzz 0.13 and a C++ compiler
	@for target in query document filter; do \
		found=$$PWD/target/fuzz/found/$$target; mkdir -p $$found; \
		(cd fuzz && CARGO_TARGET_DIR=../target/fuzz cargo fuzz run --sanitizer none $$target $$found corpus/$$target -- -max_total_time=$${FUZZ_SECONDS:-60} -max_len=8192 -timeout=5) || exit 1; \
	done

bench: setup ## measures against FAISS, tantivy, fastembed and the machine's limits; a table in target/bench/bench.md
	@scripts/setup.sh fastembed
	FRESHET_FASTEMBED=$$PWD/vendor/fastembed/bin/python cargo run --locked --release -p freshet-bench -- $(BENCH)

lint: setup ## checks formatting, clippy, documentation, shell scripts, and the licences of what is linked
	cargo fmt --all --check
	cargo clippy --locked --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --release --workspace --no-deps
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh .ci/run; \
	else echo "lint: shellcheck is not installed, scripts are not checked"; fi
	@if command -v cargo-deny >/dev/null; then cargo deny --offline --locked check licenses bans sources; \
	else echo "lint: cargo-deny is not installed, dependencies are not checked against deny.toml"; fi

dist: build ## packs the binary with its libraries, the model and configurations: target/dist/freshet-VERSION-linux-ARCH.tar.gz
	@scripts/dist.sh

clean: ## removes what was built and fetched: target/ and vendor/
	cargo clean --locked
	rm -rf vendor
