//! The journal of begun sends: what earlier sends with the same ids became.
//!
//! Neighbours: `send::idempotency` begins and ends sends; each engine of the event log has a journal.

use futures_util::future::BoxFuture;

use super::ReadError;
use crate::proto::v1;

/// Finds earlier sends by their ids, and records begun ones (P2, docs/RELIABILITY.md).
pub trait SendJournal: Send + Sync + 'static {
    /// Begins sends whose ids their callers can repeat: returns earlier sends with the same ids, as far as the engine still has
    /// them, and records that the new ones may be sent from now on.
    fn begin(&self, begin: BeginSends) -> BoxFuture<'_, Result<EarlierSends, ReadError>>;

    /// Ends begun sends: the log has their results, or nothing was sent.
    fn end(&self, sends: &[(String, ContentDigest)]);
}

#[derive(Debug, Clone, Default)]
pub struct BeginSends {
    /// The wire ids and the digests of the content.
    pub sends: Vec<(String, ContentDigest)>,
    /// Wire ids that the same request would have had with another number of destinations.
    pub conflicting_ids: Vec<String>,
}

/// What the log knows about the ids of sends that begin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EarlierSends {
    /// One entry for each send.
    pub sends: Vec<Option<EarlierSend>>,
    /// Whether one of the conflicting ids was sent, or was begun and has not ended.
    pub conflicting_id: bool,
}

/// An earlier send with the same id.
#[derive(Debug, Clone, PartialEq)]
pub enum EarlierSend {
    /// The send has a result.
    Done(Box<RecordedSend>),
    /// The send was begun and has not ended: its process was killed, or its result could not be made durable. The API may
    /// have it.
    Interrupted {
        at: jiff::Timestamp,
        digest: ContentDigest,
    },
}

/// The result of an earlier send.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedSend {
    pub digest: ContentDigest,
    pub result: Box<v1::SendResult>,
}

/// A digest of the content of a send: detects an id that is repeated with different content.
pub type ContentDigest = [u8; 16];
