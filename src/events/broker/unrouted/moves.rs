//! Publishes the copies of events that are moved into the stream.
//!
//! They go over a session of their own, because the broker ends a session whose publication it refuses. Pending reports are the exception:
//! whether a final one was published is known in the order of the publisher's session only, so they go there, as soon as the broker has
//! taken another copy from the session of the moves.
//! Neighbours: `unrouted` takes the events from their queue; `history` knows the final reports.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm, message::Delivery,
    options::BasicPublishOptions, types::FieldTable,
};

use super::{UnroutedEvents, acknowledge, in_time};
use crate::{
    amqp::{
        AmqpError, Message, Session, codec,
        event_body::read_event,
        headers::{broker, property},
        topology::short,
    },
    message::event_type::EventType,
    proto::v1,
};

pub(super) struct Moves<'a> {
    unrouted: &'a UnroutedEvents,
    session: Session,
    /// The broker takes copies: it has confirmed one, or the exchange in front of the stream was bound, which needs the same permission.
    is_taken: AtomicBool,
}

/// An event that is taken from the queue. Its body goes into its copy.
struct Moved {
    delivery: Delivery,
    /// If it is a pending report.
    pending: Option<v1::Event>,
}

impl<'a> Moves<'a> {
    /// `is_taken`: whether the stream was bound.
    pub(super) fn new(unrouted: &'a UnroutedEvents, session: Session, is_taken: bool) -> Self {
        Self {
            unrouted,
            session,
            is_taken: AtomicBool::new(is_taken),
        }
    }

    pub(super) async fn close(self) {
        self.session.close().await;
    }

    /// Moves these in their order, and acknowledges each whose copy is confirmed.
    pub(super) async fn batch(&self, batch: Vec<Delivery>) -> Result<(), AmqpError> {
        let mut run: Vec<Moved> = Vec::new();
        for delivery in batch {
            let moved = Moved::of(delivery);
            let is_alike = |last: &Moved| last.pending.is_some() == moved.pending.is_some();
            // Nothing tells yet whether the broker takes copies: one is tried.
            let is_tried = self.is_taken.load(Ordering::Relaxed);
            let goes_with = is_tried && run.last().is_some_and(is_alike);
            if !goes_with && !run.is_empty() {
                self.move_run(std::mem::take(&mut run)).await?;
            }
            run.push(moved);
        }
        self.move_run(run).await
    }

    async fn move_run(&self, run: Vec<Moved>) -> Result<(), AmqpError> {
        let is_pending = run.first().is_some_and(|first| first.pending.is_some());
        let (run, copies): (Vec<_>, Vec<_>) = run
            .into_iter()
            .map(|mut moved| {
                let copy = self.copy(&mut moved.delivery);
                (moved, copy)
            })
            .unzip();
        let history = &self.unrouted.history;
        let allows = |index: usize| {
            let event = run.get(index).and_then(|moved| moved.pending.as_ref());
            event.is_none_or(|event| !history.lock().is_late_pending(event))
        };
        let outcomes = if is_pending && self.is_taken.load(Ordering::Relaxed) {
            self.unrouted
                .publisher
                .publish_allowed(copies, allows)
                .await
        } else {
            let copies = copies.into_iter().zip(0..);
            let allowed = copies.map(|(copy, index)| allows(index).then_some(copy));
            self.publish(allowed.collect()).await?
        };
        let mut failed = None;
        for (moved, outcome) in run.iter().zip(outcomes) {
            match outcome {
                None => self.unrouted.metrics.late_pending_dropped(),
                Some(Ok(())) => self.is_taken.store(true, Ordering::Relaxed),
                // The others may be confirmed: those must not come again.
                Some(Err(error)) => {
                    failed.get_or_insert(error);
                    continue;
                }
            }
            acknowledge(&moved.delivery).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Publishes over the session of the moves.
    async fn publish(
        &self,
        copies: Vec<Option<Message>>,
    ) -> Result<Vec<Option<Result<(), AmqpError>>>, AmqpError> {
        let channel = in_time(self.session.publishing_channel()).await?;
        let mut confirms = Vec::with_capacity(copies.len());
        for copy in copies {
            confirms.push(match copy {
                Some(copy) => Some(begin(&channel, copy).await),
                None => None,
            });
        }
        let confirmed = confirms.into_iter().map(async |begun| match begun? {
            Ok(confirm) => Some(in_time(async { is_stored(confirm.await?) }).await),
            Err(error) => Some(Err(error)),
        });
        Ok(join_all(confirmed).await)
    }

    /// The copy of an event, with its body.
    fn copy(&self, delivery: &mut Delivery) -> Message {
        Message {
            // Not the exchange of events: its subscribers have had the event.
            exchange: self.unrouted.topology.events_log(),
            routing_key: delivery.routing_key.to_string(),
            properties: properties(&delivery.properties),
            body: std::mem::take(&mut delivery.data).into(),
        }
    }
}

impl Moved {
    fn of(delivery: Delivery) -> Self {
        let event = read_event(&delivery).ok();
        let pending = event.filter(|event| event.r#type == EventType::ReportPending.as_str());
        Self { delivery, pending }
    }
}

async fn begin(channel: &Channel, copy: Message) -> Result<PublisherConfirm, AmqpError> {
    let options = BasicPublishOptions::default();
    let (exchange, key) = (short(&copy.exchange)?, short(&copy.routing_key)?);
    let publishing = channel.basic_publish(exchange, key, options, &copy.body, copy.properties);
    in_time(async { Ok(publishing.await?) }).await
}

fn is_stored(confirmation: Confirmation) -> Result<(), AmqpError> {
    match confirmation {
        Confirmation::Ack(_) => Ok(()),
        Confirmation::Nack(_) => Err(AmqpError::Nacked),
        Confirmation::NotRequested => Err(AmqpError::Lost("the channel has no confirms".into())),
    }
}

/// The properties of the copy. The broker refuses those of another program that names its user, and ends the session; `CC` is another
/// address.
fn properties(original: &BasicProperties) -> BasicProperties {
    let headers = original.headers().clone().unwrap_or_default();
    let is_routed_again = headers.contains_key(broker::CC);
    if original.user_id().is_none() && !is_routed_again {
        return original.clone();
    }
    let kept = headers
        .inner()
        .iter()
        .filter(|(name, _)| name.as_str() != broker::CC);
    let kept: BTreeMap<_, _> = kept
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let properties = codec::properties(property(original.content_type()));
    properties.with_headers(FieldTable::from(kept))
}
