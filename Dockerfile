# syntax=docker/dockerfile:1
# The image of the `freshet` binary with ONNX Runtime and one model inside: it starts without a network.
#   docker build -t freshet .        10 to 20 minutes the first time; BuildKit keeps compiled parts for the next

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# What changes seldom comes first, so that editing a source file fetches nothing again.
COPY scripts/setup.sh scripts/
COPY models/ models/
RUN scripts/setup.sh tools runtime model && rm -rf /var/lib/apt/lists/*
COPY . .
# .cargo/config.toml asks for x86-64 instructions; an environment variable that is set goes before it. Elsewhere pages may be of 64 KiB.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    if [ "$(uname -m)" != x86_64 ]; then export CXXFLAGS=-O2 JEMALLOC_SYS_WITH_LG_PAGE=16; fi \
    && cargo build --locked --release -p freshet \
    && install -D target/release/freshet /out/bin/freshet

FROM debian:bookworm-slim
RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends ca-certificates libgomp1 libopenblas0-pthread libssl3 libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/freshet --create-home freshet \
    && install -d -o freshet /var/lib/freshet/data
COPY --from=build /out/bin/freshet /usr/local/bin/
COPY --from=build /src/vendor/onnxruntime/ /usr/local/lib/onnxruntime/
COPY --from=build --chown=freshet /src/vendor/models/ /var/lib/freshet/models/
COPY LICENSE /usr/share/doc/freshet/
COPY config/docker.toml /etc/freshet/freshet.toml
ENV ORT_DYLIB_PATH=/usr/local/lib/onnxruntime/libonnxruntime.so \
    FRESHET_MODELS=/var/lib/freshet/models \
    OPENBLAS_NUM_THREADS=1 \
    OMP_WAIT_POLICY=PASSIVE
USER freshet
# Relative paths of the config (data, snapshots) end up here: mount a volume to keep them.
WORKDIR /var/lib/freshet/data
ENTRYPOINT ["freshet"]
CMD ["run", "--config", "/etc/freshet/freshet.toml"]
