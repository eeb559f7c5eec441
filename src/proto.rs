//! The generated contract: messages, services, and their proto JSON. The source is `proto/smsbridge/v1/`.

#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    rust_2018_idioms
)]

/// The descriptor set of the contract, as reflection serves it.
pub const DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/smsbridge_descriptors.bin"));

/// Package `smsbridge.v1`.
pub mod v1 {
    tonic::include_proto!("smsbridge.v1");
    include!(concat!(env!("OUT_DIR"), "/smsbridge.v1.serde.rs"));
}
