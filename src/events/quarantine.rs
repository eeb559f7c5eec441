//! The quarantine: bodies of the API that could not be read, until a person decides.
//!
//! Neighbours: `intake` adds; each engine of the event log has a quarantine.

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::AppendError;

/// Where authenticated bodies are kept that cannot be read.
pub trait Quarantine: Send + Sync + 'static {
    /// Stores a body. Durable on success.
    fn add(&self, body: Quarantined) -> BoxFuture<'_, Result<(), AppendError>>;
}

/// An authenticated body that could not be read.
#[derive(Clone)]
pub struct Quarantined {
    /// Identifies the body if it may be quarantined again: the embedded engine keeps it once. `None`: each is its own.
    pub key: Option<Uuid>,
    /// `reports`, `inbound`, `clicks` or `lookups`.
    pub endpoint: &'static str,
    pub content_type: String,
    pub body: bytes::Bytes,
    pub detail: String,
}
