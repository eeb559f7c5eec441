//! Content digests: tell whether a repeated id comes with the same content.
//!
//! Invariant: priority and deadline are not part of the digest, because a retry may change them.
//! Neighbours: `plan` computes the digests; `idempotency` and the event log compare them.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::{events::ContentDigest, proto::v1};

/// Digest of the content of a message. Each destination adds its phone number.
pub(super) struct MessageDigest(Sha256);

impl MessageDigest {
    /// Changes the message only temporarily: the fields that are not part of the content are taken out and put back.
    pub(super) fn new(request: &v1::SendSmsBulkRequest, message: &mut v1::OutboundMessage) -> Self {
        let mut hash = Sha256::new();
        let not_content = (message.expires_at.take(), message.priority);
        message.priority = 0;
        hash.update(message.encode_to_vec());
        (message.expires_at, message.priority) = not_content;
        hash.update(request.bulk_id.as_bytes());
        hash.update([0]);
        if let Some(tracking) = &request.tracking {
            hash.update(tracking.encode_to_vec());
        }
        Self(hash)
    }

    /// The digest for one destination. `to` is the normalized number.
    pub(super) fn with_destination(&self, to: &str) -> ContentDigest {
        let mut hash = self.0.clone();
        hash.update([0]);
        hash.update(to.as_bytes());
        let mut digest = ContentDigest::default();
        for (byte, full) in digest.iter_mut().zip(hash.finalize()) {
            *byte = full;
        }
        digest
    }
}
