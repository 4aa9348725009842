#!/usr/bin/env bash
# Runs every test of the workspace, with all that they need: the runtime, the model, a Kafka broker and an S3 server.
#
#   scripts/test.sh [arguments of `cargo test`]        for example: scripts/test.sh -p freshet-tests kafka
#
# With KAFKA_BOOTSTRAP_SERVERS set, that cluster is used and none is started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

parts=(runtime model tiny clients duckdb qdrant schemathesis chromium s3)
[ -n "${KAFKA_BOOTSTRAP_SERVERS:-}" ] || parts+=(kafka)

export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$PWD/vendor/onnxruntime/libonnxruntime.so}
export FRESHET_MODELS=${FRESHET_MODELS:-$PWD/vendor/models}
export FRESHET_DUCKDB=$PWD/vendor/duckdb/bin/python
export FRESHET_QDRANT=$PWD/vendor/qdrant/bin/python
export FRESHET_SCHEMATHESIS=$PWD/vendor/schemathesis/bin/schemathesis
export FRESHET_S3=$PWD/vendor/s3/bin/python

test=(cargo test --locked --release)
[ $# -gt 0 ] || set -- --workspace --exclude freshet-bench

setup= broker_dir=
clean_up() {
    [ -z "$setup" ] || kill "$setup" 2>/dev/null || true
    [ -z "$broker_dir" ] || { scripts/kafka.sh stop "$broker_dir" || true; rm -rf "$broker_dir"; }
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# What compiles comes first; the rest is fetched while it does. The full-precision export, too: parity with the reference
# vectors is tested on it.
scripts/setup.sh tools
FRESHET_FP32=1 scripts/setup.sh "${parts[@]}" &
setup=$!

# Below the range that the system hands out for outgoing connections. Another run may take the same port first: again.
start_broker() {
    broker_dir=$(mktemp -d)
    local try port
    for try in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 10000))
        if KAFKA_BOOTSTRAP_SERVERS=$(scripts/kafka.sh start "$broker_dir" "$port"); then
            export KAFKA_BOOTSTRAP_SERVERS
            echo "test: Kafka answers on $KAFKA_BOOTSTRAP_SERVERS"
            return
        fi
        echo "test: no Kafka on port $port (try $try)" >&2
    done
    return 1
}

# Compiled before the broker starts: minutes the first time, and a compile error needs no broker.
before_dashes=()
for argument; do
    [ "$argument" != -- ] || break
    before_dashes+=("$argument")
done
"${test[@]}" --no-run "${before_dashes[@]}"
wait "$setup"
setup=
[ -n "${KAFKA_BOOTSTRAP_SERVERS:-}" ] || start_broker
"${test[@]}" "$@"
