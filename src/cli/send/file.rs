//! A message for each record of a file, on one `StreamSms`.
//!
//! Invariants: no more than `--in-flight` messages are unanswered; each record has a request id of its own, made from the
//! run's and the record's place in the file, so that a run that broke off is repeated and nothing is sent twice; every record
//! that was sent is counted as accepted, rejected, unknown or unanswered.

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

/// How long all unanswered messages may stay so. The bridge itself resolves a doubtful one for `send.in_doubt_for` (10 m).
const LONGEST_SILENCE: Duration = Duration::from_secs(15 * 60);
/// How often the line of progress changes at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Opens a file of messages.
///
/// # Errors
/// [`CliError::Usage`] where it can't be read or its header is wrong.
pub(super) async fn open(file: &Path) -> Result<Rows, CliError> {
    Rows::open(file, &["to", "text", "message_id", "from"]).await
}

/// Sends a message for each record and prints those that were not accepted; as JSON all answers.
///
/// # Errors
/// Where the file is wrong further down, the stream breaks, or any message was not accepted.
pub(super) async fn send(
    rows: Rows,
    args: &SendArgs,
    request_id: &str,
    bridge: &Bridge,
) -> Result<(), CliError> {
    let (requests, stream) = mpsc::channel(64);
    let flow = Flow {
        sent: AtomicU64::new(0),
        room: Arc::new(Semaphore::new(args.in_flight as usize)),
    };
    let mut report = Report::new(args.connect.json);
    let (fed, answered) = {
        let mut feeding = pin!(feed(rows, args, request_id, requests, &flow));
        let mut answering = pin!(answers(bridge, stream, &flow, &mut report));
        // When the stream has ended, nobody waits for the rest of the file; when the file has, all answers are awaited.
        tokio::select! {
            answered = &mut answering => (Ok(()), answered),
            fed = &mut feeding => (fed, answering.await),
        }
    };
    let sent = flow.sent.load(Ordering::Relaxed);
    report.finish(sent)?;
    let resume = format!("Repeat it with --request-id {request_id}: nothing is sent twice");
    if let Err(error) = answered {
        return Err(match error {
            CliError::Call(error) => CliError::Failed(format!("{error}\n  {resume}")),
            other => other,
        });
    }
    match fed {
        Err(CliError::Usage(mistake)) => Err(CliError::Usage(format!(
            "{mistake}\n  Nothing from there on was sent. Correct it and {}",
            resume.to_lowercase()
        ))),
        Err(other) => Err(other),
        Ok(()) if report.tally.accepted == sent && sent > 0 => Ok(()),
        Ok(()) if sent == 0 => Err(CliError::Usage("the file has no messages".into())),
        Ok(()) => Err(CliError::Failed(format!(
            "{} of {sent} messages not accepted\n  {resume}",
            sent - report.tally.accepted
        ))),
    }
}

/// What the two directions of the stream share.
struct Flow {
    /// Messages that were put on the stream.
    sent: AtomicU64,
    /// How many more may be.
    room: Arc<Semaphore>,
}

/// Puts a message for each record on the stream.
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
        match flow.room.acquire().await {
            // Given back by the answer.
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

/// Reads all answers.
async fn answers(
    bridge: &Bridge,
    requests: mpsc::Receiver<StreamSmsRequest>,
    flow: &Flow,
    report: &mut Report,
) -> Result<(), CliError> {
    let mut client = client(bridge);
    let requests = Request::new(ReceiverStream::new(requests));
    let opening = client.stream_sms(requests);
    let mut responses = unless_silent(opening, flow, 0).await?.into_inner();
    while let Some(response) = unless_silent(responses.message(), flow, report.answered).await? {
        report.take(&response, flow)?;
        flow.room.add_permits(1);
    }
    Ok(())
}

/// Waits, but not forever while messages are unanswered.
async fn unless_silent<T>(
    waiting: impl Future<Output = Result<T, Status>>,
    flow: &Flow,
    answered: u64,
) -> Result<T, CliError> {
    let mut waiting = pin!(waiting);
    loop {
        match tokio::time::timeout(LONGEST_SILENCE, &mut waiting).await {
            Ok(result) => return Ok(result.map_err(CallError::from)?),
            Err(_) if flow.sent.load(Ordering::Relaxed) == answered => {}
            Err(_) => {
                return Err(CliError::Failed(format!(
                    "the bridge answered nothing for {} minutes",
                    LONGEST_SILENCE.as_secs() / 60
                )));
            }
        }
    }
}

/// How many messages ended how.
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

/// What is printed while answers come.
struct Report {
    output: Output,
    table: Table,
    tally: Tally,
    answered: u64,
    begun: Instant,
    /// When the line of progress was last written; `None` where stderr is no terminal.
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
        if last.elapsed() < PROGRESS_EVERY {
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
        codes::why(result),
    ]
}
