# The service is the last stage; its compiler stays behind. `--target load` is what puts load on it.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --features kafka --bin balance-cache \
    && cp target/release/balance-cache /balance-cache

FROM rust:1.95-bookworm AS oha
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
RUN cargo install oha --version 1.16.0 --locked --root /oha

FROM debian:bookworm-slim AS load
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/*
COPY --from=oha /oha/bin/oha /usr/local/bin/oha
COPY config/deploy/load.sh /usr/local/bin/load
USER 10001
ENTRYPOINT ["bash", "/usr/local/bin/load"]

FROM debian:bookworm-slim
# OpenSSL is for Kafka only.
RUN apt-get update && apt-get install -y --no-install-recommends libssl3 && rm -rf /var/lib/apt/lists/*
COPY --from=build /balance-cache /usr/local/bin/balance-cache
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/balance-cache/
RUN useradd --system --uid 10001 --home-dir /var/lib/balance-cache --create-home balance-cache
# By number: Kubernetes' runAsNonRoot cannot look a name up.
USER 10001
# The embedded ledger's default is data/ledger.redb, below here.
WORKDIR /var/lib/balance-cache
VOLUME /var/lib/balance-cache
EXPOSE 3001 3002
# Live, not ready: a database that is away is no reason to restart the cache. bash speaks TCP itself, so the image needs
# no client.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/3002 && printf 'GET /livez HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["balance-cache"]
