# syntax=docker/dockerfile:1
# The image of smsbridge: one binary and the system's CA certificates, run as user 65532. It writes only to its data folder:
# mount a volume at /var/lib/smsbridge for the embedded event log.
#
#   docker build -t smsbridge .
#   docker run --rm smsbridge --help

# The builder and the final image are the same Debian release, so that the C library matches.
ARG DEBIAN_RELEASE=bookworm
ARG RUST_VERSION=1

FROM rust:${RUST_VERSION}-slim-${DEBIAN_RELEASE} AS build
WORKDIR /build
# Builds the dependencies in a layer of their own, which changes only with the manifests or the lock file. The test and bench
# targets are removed from the manifests, because their files are not copied into this image.
COPY Cargo.toml Cargo.lock ./
COPY crates/infobip-simulator/Cargo.toml crates/infobip-simulator/
RUN for manifest in Cargo.toml crates/infobip-simulator/Cargo.toml; do \
      awk '/^\[/ { skip = /^\[\[(test|bench)\]\]/ } !skip' $manifest > part && mv part $manifest; \
    done \
 && mkdir src crates/infobip-simulator/src \
 && echo 'fn main() {}' > build.rs \
 && cp build.rs src/main.rs \
 && cp build.rs crates/infobip-simulator/src/main.rs \
 && touch src/lib.rs crates/infobip-simulator/src/lib.rs crates/infobip-simulator/README.md \
 && cargo build --profile dist --locked \
 && rm -r src crates/infobip-simulator/src build.rs
COPY build.rs ./
COPY crates crates
RUN awk '/^\[/ { skip = /^\[\[(test|bench)\]\]/ } !skip' crates/infobip-simulator/Cargo.toml > part \
 && mv part crates/infobip-simulator/Cargo.toml
COPY proto proto
COPY src src
# Cargo compares modification times, and the copied files may be older than the stubs above.
RUN touch build.rs src/main.rs src/lib.rs crates/infobip-simulator/src/*.rs \
 && cargo build --profile dist --locked \
 && install -D target/dist/smsbridge /image/usr/local/bin/smsbridge \
 && install -D /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
 && install -d -o 65532 -g 65532 /image/var/lib/smsbridge

FROM debian:${DEBIAN_RELEASE}-slim
COPY --from=build /image/ /
USER 65532:65532
# events.data_dir is relative to this folder.
WORKDIR /var/lib/smsbridge
VOLUME /var/lib/smsbridge
# gRPC; webhooks; probes and metrics. By default each listens on loopback only.
EXPOSE 50051 8080 9090
ENTRYPOINT ["smsbridge"]
CMD ["serve"]
