//! The report of `smsbridge send --file`: the messages that were not accepted, a progress line, and the totals.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::Flow;
use crate::{
    cli::{
        codes,
        output::{Output, Table},
        send::is_accepted,
    },
    proto::v1::{Outcome, SendResult, StreamSmsResponse},
};

/// The shortest time between two updates of the progress line.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Number of messages by outcome.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) accepted: u64,
    rejected: u64,
    unknown: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            accepted,
            rejected,
            unknown,
        } = self;
        write!(
            f,
            "{accepted} accepted, {rejected} rejected, {unknown} unknown"
        )
    }
}

/// Prints responses and progress.
pub(super) struct Report {
    output: Output,
    table: Table,
    pub(super) tally: Tally,
    pub(super) answered: u64,
    began: Instant,
    /// When the progress line was last written; `None` if stderr is not a terminal.
    progress: Option<Instant>,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let now = Instant::now();
        Self {
            output: Output::new(json),
            table: Table::with_widths(
                &["LINE", "TO", "MESSAGE ID", "OUTCOME", "STATUS"],
                &[6, 12, 36, 8],
            ),
            tally: Tally::default(),
            answered: 0,
            began: now,
            progress: io::stderr().is_terminal().then_some(now),
        }
    }

    pub(super) fn take(&mut self, response: &StreamSmsResponse, flow: &Flow) -> io::Result<()> {
        self.answered += 1;
        for result in &response.results {
            match result.outcome() {
                Outcome::Accepted => self.tally.accepted += 1,
                Outcome::Rejected => self.tally.rejected += 1,
                Outcome::Unknown | Outcome::Unspecified => self.tally.unknown += 1,
            }
        }
        if self.output.is_json() {
            self.output.json(response)?;
        } else if response.results.iter().any(|result| !is_accepted(result)) {
            self.clear_progress()?;
            let failed: Vec<_> = response
                .results
                .iter()
                .filter(|result| !is_accepted(result))
                .collect();
            self.output.messages(&mut self.table, &failed, |result| {
                row(&response.correlation, result)
            })?;
            self.output.flush()?;
        }
        self.show_progress(flow)
    }

    fn show_progress(&mut self, flow: &Flow) -> io::Result<()> {
        let Some(last) = &mut self.progress else {
            return Ok(());
        };
        if last.elapsed() < PROGRESS_INTERVAL {
            return Ok(());
        }
        *last = Instant::now();
        let sent = flow.sent.load(Ordering::Relaxed);
        write!(
            io::stderr(),
            "\r\u{1b}[K{sent} sent: {}, {:.0}/s",
            self.tally,
            self.rate()
        )
    }

    fn clear_progress(&self) -> io::Result<()> {
        if self.progress.is_some() {
            write!(io::stderr(), "\r\u{1b}[K")?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, sent: u64) -> io::Result<()> {
        self.clear_progress()?;
        self.output.flush()?;
        let unanswered = match sent.saturating_sub(self.answered) {
            0 => String::new(),
            unanswered => format!(", {unanswered} unanswered"),
        };
        self.output.note(&format!(
            "{sent} sent: {}{unanswered}, in {:.1} s ({:.0}/s)",
            self.tally,
            self.began.elapsed().as_secs_f64(),
            self.rate()
        ))
    }

    fn rate(&self) -> f64 {
        self.answered as f64 / self.began.elapsed().as_secs_f64().max(0.001)
    }
}

fn row(line: &str, result: &SendResult) -> Vec<String> {
    vec![
        line.to_owned(),
        result.to.clone(),
        result.message_id.clone(),
        codes::outcome(result),
        codes::reason(result),
    ]
}
