//! Finds many sends in doubt at once: among the latest rows of the API's logs, a thousand of them in one request, while a request by id
//! has room for some forty ids.
//!
//! Invariant: only an acceptance counts here. What is not among these rows is asked for by its id.
//! Neighbours: the resolver in [`super`] asks by id.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{
    InDoubtSend, LogAnswers, Resolver,
    round::{Logs, id_filters},
};
use crate::{
    infobip::{LogsQuery, limits, wire},
    message::time,
    send::outcome::{self, Verdict},
};

/// How old the rows may be. What is in doubt was sent a moment ago, or is a command that the broker has delivered again.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(10);
/// So many requests by id are made without this.
const FEW_REQUESTS: usize = 2;

impl Resolver {
    /// Looks for the sends of `due` among the latest rows, if they would take many requests by id: makes at most half as many. What
    /// an earlier round sought and did not ask for by its id is not sought again, so a search that fails cannot stand in the way.
    pub(super) async fn find_among_recent(
        &self,
        due: &[InDoubtSend],
        no_request_after: Instant,
        answers: &mut LogAnswers,
    ) -> Option<Logs> {
        let new = due.iter().filter(|send| !send.was_sought);
        let mut wanted: HashSet<_> = new.map(InDoubtSend::wire_id).collect();
        let requests = id_filters(wanted.iter().copied()).len();
        if requests <= FEW_REQUESTS {
            return None;
        }
        let mut query = LogsQuery {
            sent_since: Timestamp::now().checked_sub(MAX_AGE).ok(),
            limit: Some(limits::MAX_ROWS),
            ..LogsQuery::default()
        };
        answers.note_sought();
        for _ in 0..requests / 2 {
            let at = Instant::now();
            if at > no_request_after {
                break;
            }
            let read = match self.ask(&query, no_request_after, answers).await {
                Ok(read) => read,
                Err(logs) => return Some(logs),
            };
            let rows = read.rows.len() + read.bad.len();
            let sent_at = |row: &wire::LogRow| row.log.sent_at.as_ref().and_then(time::from_proto);
            let oldest = read.rows.iter().filter_map(sent_at).min();
            let found: Vec<_> = read
                .rows
                .into_iter()
                .filter(|row| is_accepted(row) && wanted.remove(row.wire_id.as_str()))
                .collect();
            let found_none = found.is_empty();
            let ids = found.iter().map(|row| row.wire_id.clone()).collect();
            answers.add(ids, at, found);
            let is_last = u32::try_from(rows).is_ok_and(|rows| rows < limits::MAX_ROWS);
            if is_last || found_none || wanted.is_empty() || oldest == query.sent_until {
                break;
            }
            query.sent_until = oldest;
        }
        None
    }
}

fn is_accepted(row: &wire::LogRow) -> bool {
    let status = row.log.status.clone().unwrap_or_default();
    outcome::of_log(&status) == Verdict::Accepted
}
