#!/usr/bin/env bash
# Streams the sample corpus through the pipeline and shows how its questions were answered on the way.
#
#   scripts/demo.sh            needs target/release/freshet and `scripts/setup.sh runtime model`; `make demo` sees to both
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export FRESHET_DEMO_DIR=${FRESHET_DEMO_DIR:-data/demo}
export OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

corpus=tests/demo
topics=$FRESHET_DEMO_DIR
freshet=target/release/freshet
documents=$(wc -l <"$corpus/documents.jsonl")
queries=$(wc -l <"$corpus/queries.jsonl")
# The questions whose answers are shown in full.
shown=${FRESHET_DEMO_SHOWN:-q16,q21,q23}
# Document records that arrive between two questions.
stride=$(((documents + queries - 1) / queries))

rm -rf "$topics"
mkdir -p "$topics"
touch "$topics/documents.jsonl" "$topics/queries.jsonl" "$topics/answers.jsonl"

pipeline=
clean_up() { [ -z "$pipeline" ] || kill -INT "$pipeline" 2>/dev/null || true; }
trap clean_up EXIT

# One line that is written over on a terminal, nothing elsewhere.
progress() {
    [ ! -t 1 ] || printf '\rdemo: %3d documents sent, %2d questions asked, %2d answered' \
        "$sent" "$asked" "$(wc -l <"$topics/answers.jsonl")"
}

# The pipeline runs; else what it said, and the end.
alive() {
    kill -0 "$pipeline" 2>/dev/null || { echo; cat "$topics/run.log" >&2; exit 1; }
}

echo "demo: $documents document records and $queries questions flow into $topics/; answers flow out"
began=$(date +%s%N)
"$freshet" run --config config/demo.toml 2>"$topics/run.log" &
pipeline=$!

# Models take a moment to load.
until grep -q '^listening' "$topics/run.log"; do
    alive
    sleep 0.1
done

# The stream: some documents, one question, and on. Questions do not wait for the end of the documents.
sent=0
asked=0
while read -r query; do
    tail -n "+$((sent + 1))" "$corpus/documents.jsonl" | head -n "$stride" >>"$topics/documents.jsonl" || true
    sent=$((sent + stride < documents ? sent + stride : documents))
    printf '%s\n' "$query" >>"$topics/queries.jsonl"
    asked=$((asked + 1))
    progress
    sleep 0.25 # the pace of the stream
done <"$corpus/queries.jsonl"

# Everything is sent: the last answers are a matter of moments.
for _ in $(seq 300); do
    answered=$(wc -l <"$topics/answers.jsonl")
    progress
    [ "$answered" -lt "$queries" ] || break
    alive
    sleep 0.1
done
[ ! -t 1 ] || echo
[ "$answered" -ge "$queries" ] || { echo "demo: only $answered of $queries questions were answered" >&2; exit 1; }
kill -INT "$pipeline"
wait "$pipeline"
pipeline=
echo "demo: all answered after $((($(date +%s%N) - began) / 1000000)) ms; some of them, with the rank of each hit in every stage"
echo "      (▲ ▼ moves against the best rank before):"

"$freshet" tail --config config/demo.toml --ids "$shown"

cat <<'NEXT'

What to try next:
  target/release/freshet run   --config config/demo.toml      then open http://127.0.0.1:6333: search, and see how hits moved
  target/release/freshet query --config config/demo.toml "my card was declined twice"      ask something yourself
  target/release/freshet query --config config/demo.toml --plan rerank "door stays locked"  by another plan
  target/release/freshet eval  tests/demo/eval                                              measure the plans
  target/release/freshet tail  --config config/demo.toml                                    all answers
  target/release/freshet run   --config config/kafka.toml                                   the same on Kafka
NEXT
