//! The newest events of the log.
//!
//! The contract reads forwards only. So this reads the last minute, then the last hour, and so on, until there are enough: a
//! long log is not read from its beginning.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::{Start, open};
use crate::{
    cli::{CliError, connect::Bridge},
    message::time::to_proto,
    proto::v1::{Event, EventFilter, StreamEventsRequest},
};

/// How far back the log is read, one after the other.
const REACHES: [SignedDuration; 3] = [
    SignedDuration::from_mins(1),
    SignedDuration::from_hours(1),
    SignedDuration::from_hours(24),
];

/// Returns the newest `count` matching events, oldest first. With `since`: only events since that time.
///
/// # Errors
/// If the bridge refuses the call or the connection breaks.
pub(super) async fn read(
    bridge: &Bridge,
    filter: &EventFilter,
    since: Option<Timestamp>,
    count: usize,
) -> Result<Vec<Event>, CliError> {
    let oldest = since.unwrap_or(Timestamp::UNIX_EPOCH);
    let now = Timestamp::now();
    let starts = REACHES
        .iter()
        .filter_map(|reach| now.checked_sub(*reach).ok());
    for start in starts.filter(|start| *start > oldest) {
        let events = newest(bridge, filter, start, count).await?;
        if events.len() == count {
            return Ok(events.into());
        }
    }
    Ok(newest(bridge, filter, oldest, count).await?.into())
}

/// The newest `count` events since a time.
async fn newest(
    bridge: &Bridge,
    filter: &EventFilter,
    since: Timestamp,
    count: usize,
) -> Result<VecDeque<Event>, CliError> {
    let request = StreamEventsRequest {
        start: Some(Start::Since(to_proto(since))),
        filter: Some(filter.clone()),
        end_at_head: true,
    };
    let mut stream = open(bridge, request).await?;
    let mut events = VecDeque::new();
    while let Some(response) = stream.message().await? {
        events.extend(response.event);
        if events.len() > count {
            events.pop_front();
        }
    }
    Ok(events)
}
