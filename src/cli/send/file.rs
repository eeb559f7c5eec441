//! `smsbridge send --file`: sends a message for each record on one `StreamSms` call.
//!
//! Invariants: at most `--in-flight` messages have no response; each record has its own request id, derived from the request id
//! of the run and the number of the record, so that a repeated run sends nothing twice; every message that was sent is
//! counted as accepted, rejected, unknown or unanswered.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::{SendArgs, client, is_accepted, message};
use crate::{
    cli::{
        CliError, codes,
        connect::{Bridge, CallError},
        numbers::Rows,
        output::{Output, Table},
    },
    proto::v1::{
        Destination, OutboundMessage, Outcome, SendResult, SendSmsRequest, StreamSmsRequest,
        StreamSmsResponse, outbound_message::Content,
    },
};

/// The longest time without a response while messages are in flight. The bridge resolves a message in doubt within
/// `send.in_doubt_for` (10 min).
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// The shortest time between two updates of the progress line.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// # Errors
/// [`CliError::Usage`] if the file cannot be read or its header is invalid.
pub(super) async fn open(file: &Path) -> Result<Rows, CliError> {
    Rows::open(file, &["to", "text", "message_id", "from"]).await
}

/// Sends a message for each record. Prints the messages that were not accepted; with `--json`, all responses.
///
/// # Errors
/// If a record is invalid, the stream breaks, or any message was not accepted.
pub(super) async fn send(
    rows: Rows,
    args: &SendArgs,
    request_id: &str,
    bridge: &Bridge,
) -> Result<(), CliError> {
    let (requests, stream) = mpsc::channel(64);
    let flow = Flow {
        sent: AtomicU64::new(0),
        permits: Arc::new(Semaphore::new(args.in_flight as usize)),
    };
    let mut report = Report::new(args.connect.json);
    let (fed, answered) = {
        let mut feeding = pin!(feed(rows, args, request_id, requests, &flow));
        let mut answering = pin!(answers(bridge, stream, &flow, &mut report));
        // If the stream ends, the rest of the file is not read. At the end of the file, all responses are awaited.
        tokio::select! {
            answered = &mut answering => (Ok(()), answered),
            fed = &mut feeding => (fed, answering.await),
        }
    };
    let sent = flow.sent.load(Ordering::Relaxed);
    report.finish(sent)?;
    let resume =
        format!("Repeat the command with --request-id {request_id}: nothing is sent twice");
    if let Err(error) = answered {
        return Err(match error {
            CliError::Call(error) => CliError::Failed(format!("{error}\n  {resume}")),
            other => other,
        });
    }
    match fed {
        Err(CliError::Usage(mistake)) => Err(CliError::Usage(format!(
            "{mistake}\n  This record and those after it were not sent. Correct the file. {resume}"
        ))),
        Err(other) => Err(other),
        Ok(()) if report.tally.accepted == sent && sent > 0 => Ok(()),
        Ok(()) if sent == 0 => Err(CliError::Usage("the file has no records".into())),
        Ok(()) => Err(CliError::Failed(format!(
            "{} of {sent} messages were not accepted\n  {resume}",
            sent - report.tally.accepted
        ))),
    }
}

/// Shared by both directions of the stream.
struct Flow {
    /// Number of messages sent.
    sent: AtomicU64,
    /// Free places of `--in-flight`.
    permits: Arc<Semaphore>,
}

/// Sends a message for each record.
async fn feed(
    mut rows: Rows,
    args: &SendArgs,
    request_id: &str,
    requests: mpsc::Sender<StreamSmsRequest>,
    flow: &Flow,
) -> Result<(), CliError> {
    let template = message(args);
    let mut number = 0_u64;
    while let Some(mut row) = rows.next().await? {
        number += 1;
        let mut message = OutboundMessage {
            destinations: vec![Destination {
                to: row.take("to"),
                message_id: row.take("message_id"),
            }],
            ..template.clone()
        };
        let (text, from) = (row.take("text"), row.take("from"));
        if !text.is_empty() {
            message.content = Some(Content::Text(text));
        }
        if !from.is_empty() {
            message.from = from;
        }
        let request = StreamSmsRequest {
            correlation: row.line.to_string(),
            request: Some(SendSmsRequest {
                request_id: format!("{request_id}:{number}"),
                message: Some(message),
                bulk_id: args.bulk_id.clone().unwrap_or_default(),
                tracking: None,
            }),
        };
        match flow.permits.acquire().await {
            // `answers` adds a permit for each response.
            Ok(permit) => permit.forget(),
            Err(_) => return Ok(()),
        }
        flow.sent.fetch_add(1, Ordering::Relaxed);
        if requests.send(request).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads all responses.
async fn answers(
    bridge: &Bridge,
    requests: mpsc::Receiver<StreamSmsRequest>,
    flow: &Flow,
    report: &mut Report,
) -> Result<(), CliError> {
    let mut client = client(bridge);
    let requests = Request::new(ReceiverStream::new(requests));
    let opening = client.stream_sms(requests);
    let mut responses = with_timeout(opening, flow, 0).await?.into_inner();
    while let Some(response) = with_timeout(responses.message(), flow, report.answered).await? {
        report.take(&response, flow)?;
        flow.permits.add_permits(1);
    }
    Ok(())
}

/// Waits for the next response, at most [`RESPONSE_TIMEOUT`] while messages are in flight.
async fn with_timeout<T>(
    waiting: impl Future<Output = Result<T, Status>>,
    flow: &Flow,
    answered: u64,
) -> Result<T, CliError> {
    let mut waiting = pin!(waiting);
    loop {
        match tokio::time::timeout(RESPONSE_TIMEOUT, &mut waiting).await {
            Ok(result) => return Ok(result.map_err(CallError::from)?),
            Err(_) if flow.sent.load(Ordering::Relaxed) == answered => {}
            Err(_) => {
                return Err(CliError::Failed(format!(
                    "no response from the bridge for {} minutes",
                    RESPONSE_TIMEOUT.as_secs() / 60
                )));
            }
        }
    }
}

/// Number of messages by outcome.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    accepted: u64,
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
struct Report {
    output: Output,
    table: Table,
    tally: Tally,
    answered: u64,
    begun: Instant,
    /// When the progress line was last written; `None` if stderr is not a terminal.
    progress: Option<Instant>,
}

impl Report {
    fn new(json: bool) -> Self {
        let now = Instant::now();
        Self {
            output: Output::new(json),
            table: Table::with_widths(
                &["LINE", "TO", "MESSAGE ID", "OUTCOME", "STATUS"],
                &[6, 12, 36, 8],
            ),
            tally: Tally::default(),
            answered: 0,
            begun: now,
            progress: io::stderr().is_terminal().then_some(now),
        }
    }

    fn take(&mut self, response: &StreamSmsResponse, flow: &Flow) -> io::Result<()> {
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

    fn finish(&mut self, sent: u64) -> io::Result<()> {
        self.clear_progress()?;
        self.output.flush()?;
        let unanswered = match sent.saturating_sub(self.answered) {
            0 => String::new(),
            unanswered => format!(", {unanswered} unanswered"),
        };
        self.output.note(&format!(
            "{sent} sent: {}{unanswered}, in {:.1} s ({:.0}/s)",
            self.tally,
            self.begun.elapsed().as_secs_f64(),
            self.rate()
        ))
    }

    fn rate(&self) -> f64 {
        self.answered as f64 / self.begun.elapsed().as_secs_f64().max(0.001)
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
