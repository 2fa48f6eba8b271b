# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# sqlx checks the queries against the descriptions in .sqlx/, so the build needs no database.
ENV SQLX_OFFLINE=true
COPY . .
# The cache mounts keep the fetched and built dependencies for the next build of the image. The image
# does not contain the caches, so this step copies the binary out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bin tollgate \
    && cp target/release/tollgate /usr/local/bin/tollgate

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tollgate
COPY --from=build /usr/local/bin/tollgate /usr/local/bin/tollgate
USER 10001
# The metrics endpoint listens only on the loopback address of the container, because metrics name tenants and
# need no credential.
ENV TOLLGATE_LISTEN=0.0.0.0:8080
EXPOSE 8080
# The image has no curl, so bash opens the connection itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /livez HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && read -r -t 2 line <&3 && [[ $line == HTTP/1.?' 200'* ]]"]
ENTRYPOINT ["tollgate"]
CMD ["serve"]
