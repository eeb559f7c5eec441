//! The report of `smsbridge send --file`: the messages that were not accepted, a progress line, and the totals.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::Flow;
use crate::{
    cli::{
        codes,
        output::{Column, Output, Table},
        send::{is_accepted, tally::Tally},
    },
    proto::v1::{SendResult, StreamSmsResponse},
};

/// The shortest time between two updates of the progress line.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

const COLUMNS: &[Column] = &[
    Column::new("LINE"),
    Column::new("TO"),
    Column::new("MESSAGE ID"),
    Column::new("OUTCOME").toned(),
    Column::text("STATUS"),
];

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
            table: Table::with_widths(COLUMNS, &[6, 12, 36, 8]),
            tally: Tally::default(),
            answered: 0,
            began: now,
            progress: io::stderr().is_terminal().then_some(now),
        }
    }

    pub(super) fn take(&mut self, response: &StreamSmsResponse, flow: &Flow) -> io::Result<()> {
        self.answered += 1;
        for result in &response.results {
            self.tally.add(result);
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
            "\r\u{1b}[K{}, {:.0}/s",
            self.tally.totals(sent.saturating_sub(self.answered)),
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
        self.output.note(&format!(
            "{}, in {:.1} s ({:.0}/s)",
            self.tally.totals(sent.saturating_sub(self.answered)),
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
