//! Finds many sends in doubt at once: among the latest rows of the API's logs, a thousand of them in one request, while a request by id
//! has room for some forty ids.
//!
//! Invariant: only an acceptance counts here. What is not among these rows is asked for by its id.
//! Neighbours: the resolver in [`super`] asks by id.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{InDoubtSend, LogAnswers, Resolver};
use crate::{
    infobip::{LogsQuery, limits, pacing::Priority, wire},
    message::time,
    send::outcome::{self, Verdict},
};

/// How old the rows may be. What is in doubt was sent a moment ago, or is a command that the broker has delivered again.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(10);
/// So many requests by id are made without this.
const FEW_REQUESTS: usize = 2;

impl Resolver {
    /// Looks for the sends of `due` among the latest rows, if `requests` requests by id would be many: makes at most half as many.
    pub(super) async fn find_among_recent(
        &self,
        due: &[InDoubtSend],
        requests: usize,
        answers: &mut LogAnswers,
    ) {
        if requests <= FEW_REQUESTS {
            return;
        }
        let mut wanted: HashSet<_> = due.iter().map(InDoubtSend::wire_id).collect();
        let mut query = LogsQuery {
            sent_since: Timestamp::now().checked_sub(MAX_AGE).ok(),
            limit: Some(limits::MAX_ROWS),
            ..LogsQuery::default()
        };
        for _ in 0..requests / 2 {
            let at = Instant::now();
            let response = self.account.logs(&query, Priority::InDoubt).await;
            let Some(read) = response
                .ok()
                .and_then(|response| wire::read_logs(&response.body).ok())
            else {
                return;
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
                return;
            }
            query.sent_until = oldest;
        }
    }
}

fn is_accepted(row: &wire::LogRow) -> bool {
    let status = row.log.status.clone().unwrap_or_default();
    outcome::of_log(&status) == Verdict::Accepted
}
