//! The quarantine of the broker engine: the quorum queue `{prefix}.quarantine`.
//!
//! Its size is the broker's: where a policy or an argument bounds the queue with `reject-publish`, a refused body is not taken from its
//! sender. A body that a visit finds twice, because a process was killed between two steps or a confirm was lost, stays once.
//! Neighbours: `amqp::walk` takes bodies and gives them back, `events::quarantine` has the trait.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use lapin::message::Delivery;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::BrokerLog;
use crate::{
    amqp::{
        AmqpError, Message, Topology, codec,
        headers::{
            APPLICATION, DETAIL, ENDPOINT, PART, REQUEST, SOURCE, property, text_header, text_table,
        },
        walk::{PageRequest, Place, Seen, Walk, WalkError, Walked},
    },
    events::{
        AppendError,
        quarantine::{
            Kept, ListPage, Listed, Origin, Quarantine, Quarantined, Source, Verdict, VisitError,
            Visitor, Wanted,
        },
    },
    ops::kill_point::{self, KillPoint},
};

/// The value of the header of a row.
const ROW: &str = "row";
/// What a list selects, in its page tokens.
const EVERYTHING: &str = "quarantine";
/// About what a listed body takes besides its detail.
const LISTED_BYTES: usize = 200;
/// Bodies that a visit remembers, to find what is there twice.
const MAX_REMEMBERED: usize = 100_000;
/// The longest wait at the end until a list has given back what it holds.
pub(super) const GIVE_BACK: Duration = Duration::from_millis(500);

pub(super) fn walked(topology: &Topology) -> Walked {
    Walked {
        queue: topology.quarantine(),
        lock: topology.quarantine_lock(),
        purpose: "quarantine",
    }
}

impl BrokerLog {
    async fn put_in_quarantine(
        &self,
        body: Quarantined,
        came_at: Option<Timestamp>,
    ) -> Result<(), AppendError> {
        let origin = &body.origin;
        let said = [
            (ENDPOINT, &*origin.endpoint),
            (DETAIL, &body.detail),
            (SOURCE, origin.source.name().unwrap_or_default()),
            (PART, if origin.is_row { ROW } else { "" }),
            (APPLICATION, &origin.application),
            (REQUEST, &origin.request),
        ];
        let said = said.into_iter().filter(|(_, value)| !value.is_empty());
        let mut properties = codec::properties(&body.content_type)
            .with_message_id(codec::lossy_short(&body.id.to_string()))
            .with_headers(text_table(said));
        if let Some(at) = came_at {
            properties = properties.with_timestamp(at.as_second().max(0).unsigned_abs());
        }
        let message = Message {
            exchange: String::new(),
            routing_key: self.topology.quarantine(),
            properties,
            body: body.body,
        };
        let published = self.publisher.publish_mandatory(message).await;
        published.map_err(|error| match error {
            AmqpError::Closed => AppendError::Closed,
            AmqpError::Nacked => AppendError::QuarantineFull,
            error => AppendError::Unavailable(error.to_string()),
        })
    }

    async fn visit_walk(
        &self,
        walk: &mut Walk,
        wanted: &Wanted,
        until: Instant,
        visitor: &mut dyn Visitor,
    ) -> Result<(), VisitError> {
        let mut seen = HashSet::new();
        while let Some(delivery) = walk.next().await? {
            let mut kept = kept(&delivery);
            let id = kept.quarantined.id;
            if wanted.includes(id) {
                let digest: [u8; 32] = Sha256::digest(&delivery.data).into();
                let is_twin = seen.contains(&(id, digest));
                if seen.len() < MAX_REMEMBERED {
                    seen.insert((id, digest));
                }
                kept.quarantined.body = Bytes::copy_from_slice(&delivery.data);
                if is_twin {
                    walk.remove(&delivery).await?;
                } else if let Verdict::Replaced(parts) = visitor.see(kept.clone()).await? {
                    for part in parts {
                        self.put_in_quarantine(part, kept.came_at).await?;
                    }
                    kill_point::reached(KillPoint::PartsStored);
                    walk.remove(&delivery).await?;
                    visitor.removed();
                }
                if visitor.is_done() {
                    return Ok(());
                }
            }
            self.desk.check_time(until)?;
        }
        Ok(walk.check_end()?)
    }
}

impl Quarantine for BrokerLog {
    fn add(&self, body: Quarantined) -> BoxFuture<'_, Result<(), AppendError>> {
        self.put_in_quarantine(body, Some(Timestamp::now())).boxed()
    }

    fn list(&self, page: ListPage, until: Instant) -> BoxFuture<'_, Result<Listed, VisitError>> {
        async move {
            let place = match Place::read(&page.token) {
                Ok(Some((selected, place))) if selected == EVERYTHING => Some(place),
                Ok(None) => None,
                Ok(Some(_)) | Err(_) => return Err(VisitError::BadPageToken),
            };
            let request = PageRequest {
                token: page.token,
                place,
                limit: page.limit,
            };
            let see = |delivery: &Delivery| {
                let kept = kept(delivery);
                let size = kept.quarantined.detail.len() + LISTED_BYTES;
                Seen {
                    id: kept.quarantined.id.to_string(),
                    shown: Some((kept, size)),
                }
            };
            let token = |place: &Place| place.write(EVERYTHING);
            let page = self.desk.page(&request, until, token, see).await?;
            Ok(Listed {
                bodies: page.shown,
                next_token: page.next_token,
            })
        }
        .boxed()
    }

    fn visit<'a>(
        &'a self,
        wanted: Wanted,
        until: Instant,
        visitor: &'a mut dyn Visitor,
    ) -> BoxFuture<'a, Result<(), VisitError>> {
        async move {
            if visitor.is_done() {
                return Ok(());
            }
            let visiting = self.desk.on_walk(until, async |walk| {
                let visited = self.visit_walk(walk, &wanted, until, visitor).await;
                let settled = walk.settle().await.map_err(VisitError::from);
                visited.and(settled)
            });
            visiting.await
        }
        .boxed()
    }

    fn end_visits(&self) {
        self.no_walks.cancel();
    }
}

/// Without its bytes.
fn kept(delivery: &Delivery) -> Kept {
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref();
    let text = |name| text_header(headers, name).unwrap_or_default();
    let at = properties.timestamp().and_then(|at| i64::try_from(at).ok());
    Kept {
        quarantined: Quarantined {
            id: id(delivery),
            origin: Origin {
                endpoint: text(ENDPOINT).into(),
                source: Source::parse(&text(SOURCE)),
                is_row: text(PART) == ROW,
                application: text(APPLICATION),
                request: text(REQUEST),
            },
            content_type: property(properties.content_type()).to_owned(),
            body: Bytes::new(),
            detail: text(DETAIL),
        },
        came_at: at.and_then(|at| Timestamp::from_second(at).ok()),
        bytes: delivery.data.len(),
    }
}

/// That which the bridge gave it; of what another program published, a digest of what does not change while it is there.
fn id(delivery: &Delivery) -> Uuid {
    let given = property(delivery.properties.message_id());
    Uuid::parse_str(given).unwrap_or_else(|_| {
        let mut told = format!("{given}|{:?}|", delivery.properties.timestamp()).into_bytes();
        told.extend_from_slice(&delivery.data);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &told)
    })
}

impl From<WalkError> for VisitError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Busy => Self::Busy,
            WalkError::PlaceGone => Self::PageTokenExpired,
            WalkError::TimeUp => Self::TimeUp,
            WalkError::ShuttingDown => Self::ShuttingDown,
            error @ (WalkError::CutShort | WalkError::Broker(_)) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}
