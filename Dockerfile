# syntax=docker/dockerfile:1
# The image of smsbridge: one binary and the system's CA certificates, as user 65532, with nothing it needs to write to but
# its data folder (mount a volume at /var/lib/smsbridge for the embedded event log).
#
#   docker build -t smsbridge .
#   docker run --rm smsbridge --help

# Builder and final image come from the same Debian, so that the C library fits.
ARG DEBIAN_RELEASE=bookworm
ARG RUST_VERSION=1

FROM rust:${RUST_VERSION}-slim-${DEBIAN_RELEASE} AS build
WORKDIR /build
# A layer of the dependencies alone: it is built anew only when the manifests or the lock file change. The tests' and benches' targets are
# left out of the manifest, as their files are not in this image.
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
# Cargo goes by modification times: the files from the context may be older than the stubs.
RUN touch build.rs src/main.rs src/lib.rs crates/infobip-simulator/src/*.rs \
 && cargo build --profile dist --locked \
 && install -D target/dist/smsbridge /image/usr/local/bin/smsbridge \
 && install -D /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
 && install -d -o 65532 -g 65532 /image/var/lib/smsbridge

FROM debian:${DEBIAN_RELEASE}-slim
COPY --from=build /image/ /
USER 65532:65532
# events.data_dir is relative to here.
WORKDIR /var/lib/smsbridge
VOLUME /var/lib/smsbridge
# gRPC, what Infobip calls, probes and metrics. Each listens on loopback until the configuration says otherwise.
EXPOSE 50051 8080 9090
ENTRYPOINT ["smsbridge"]
CMD ["serve"]
