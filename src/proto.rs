//! The code generated from the contract in `proto/smsbridge/v1/`: messages, services, and their JSON mapping.

#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    rust_2018_idioms
)]

pub mod codec;
mod timestamp;

use std::{collections::BTreeSet, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

pub use self::timestamp::Timestamp;

/// The descriptor set of the contract, as reflection serves it.
pub const DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/smsbridge_descriptors.bin"));

/// The descriptors of the contract, decoded.
pub fn contract() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTORS).expect("the build embeds a valid descriptor set")
}

/// Every method of the gRPC server, as `package.Service/Method`: of the contract, health checking and reflection.
pub fn methods() -> &'static BTreeSet<String> {
    static METHODS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let mut methods = BTreeSet::new();
        for file in &contract().file {
            for service in &file.service {
                methods.extend(service.method.iter().map(|method| {
                    format!("{}.{}/{}", file.package(), service.name(), method.name())
                }));
            }
        }
        let others = [
            "grpc.health.v1.Health/Check",
            "grpc.health.v1.Health/Watch",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ];
        methods.extend(others.map(str::to_owned));
        methods
    });
    &METHODS
}

impl v1::SendResult {
    /// Whether the destination can be sent again: nothing was attempted, or a repetition with the same ids is looked up first.
    pub fn has_retryable_refusal(&self) -> bool {
        self.refusal
            .as_ref()
            .is_some_and(|refusal| refusal.retryable)
    }
}

/// Package `smsbridge.v1`.
pub mod v1 {
    tonic::include_proto!("smsbridge.v1");
    include!(concat!(env!("OUT_DIR"), "/smsbridge.v1.serde.rs"));
}
