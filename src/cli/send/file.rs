//! `smsbridge send --file`: sends a message for each record on one `StreamSms` call.
//!
//! Invariants: at most `--in-flight` messages have no response; each record has its own request id, derived from the request id
//! of the run and the number of the record, so that a repeated run sends nothing twice; every message is
//! counted as accepted, rejected, unknown, not sent or unanswered, also if Ctrl-C ends the run.

mod report;

use std::{
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use self::report::Report;
use super::{SendArgs, client, message, tally::repeat};
use crate::{
    cli::{
        CliError,
        connect::Bridge,
        interrupt::interrupted,
        numbers::{OtherColumns, RowReader},
        rpc_error::RpcError,
    },
    proto::v1::{
        Destination, OutboundMessage, SendSmsRequest, StreamSmsRequest, outbound_message::Content,
    },
};

/// The longest time without a response while messages are in flight. The bridge resolves a message in doubt within
/// `send.in_doubt_for` (10 min).
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// # Errors
/// [`CliError::Usage`] if the file cannot be read or its header is invalid.
pub(super) async fn open(file: &Path) -> Result<RowReader, CliError> {
    RowReader::open(
        file,
        &["to", "text", "message_id", "from"],
        OtherColumns::Refused,
    )
    .await
}

/// Sends a message for each record. Prints the messages that were not accepted; with `--json`, all responses.
///
/// # Errors
/// If a record is invalid, the stream breaks, Ctrl-C ends the run, or any message was not accepted.
pub(super) async fn send(
    rows: RowReader,
    args: &SendArgs,
    request_id: &str,
    bridge: &Bridge,
) -> Result<(), CliError> {
    let (requests, stream) = mpsc::channel(64);
    let flow = Flow {
        sent: AtomicU64::new(0),
        last_line: AtomicU64::new(0),
        is_read: AtomicBool::new(false),
        permits: Arc::new(Semaphore::new(args.in_flight as usize)),
    };
    let mut report = Report::new(args.connect.json);
    let ended = {
        let mut feeding = pin!(feed(rows, args, request_id, requests, &flow));
        let mut reading = pin!(read_responses(bridge, stream, &flow, &mut report));
        // If the stream ends, the rest of the file is not read. At the end of the file, all responses are awaited.
        let both = async {
            tokio::select! {
                read = &mut reading => (Ok(()), read),
                fed = &mut feeding => (fed, reading.await),
            }
        };
        tokio::select! {
            ended = both => Some(ended),
            () = interrupted() => None,
        }
    };
    let sent = flow.sent.load(Ordering::Relaxed);
    report.finish(sent)?;
    let resume = repeat(request_id);
    let Some((fed, read)) = ended else {
        let reach = flow.reach(sent.saturating_sub(report.answered));
        return Err(CliError::Interrupted(format!(
            "interrupted: {reach}\n  {resume}"
        )));
    };
    if let Err(error) = read {
        return Err(match error {
            CliError::Rpc(error) => CliError::Failed(format!("{error}\n  {resume}")),
            other => other,
        });
    }
    match fed {
        Err(CliError::Usage(mistake)) => Err(CliError::Usage(format!(
            "{mistake}\n  This record and those after it were not sent. Correct the file. {resume}"
        ))),
        Err(other) => Err(other),
        Ok(()) if sent == 0 => Err(CliError::Usage("the file has no records".into())),
        Ok(()) if report.answered < sent => Err(CliError::Failed(format!(
            "{} of {sent} messages have no result\n  {resume}",
            sent - report.answered
        ))),
        Ok(()) => report.tally.outcome(sent, request_id, ""),
    }
}

/// Shared by both directions of the stream.
struct Flow {
    /// Number of messages sent.
    sent: AtomicU64,
    /// The line of the file at which the last of them ends; 0 if there is none.
    last_line: AtomicU64,
    /// Whether the whole file was read.
    is_read: AtomicBool,
    /// The permits of `--in-flight` that are free.
    permits: Arc<Semaphore>,
}

impl Flow {
    /// How far a run came that was interrupted: what was sent and has no result, and what was not sent.
    fn reach(&self, unanswered: u64) -> String {
        let unsent = match self.last_line.load(Ordering::Relaxed) {
            _ if self.is_read.load(Ordering::Relaxed) => "all records were sent".to_owned(),
            0 => "no record was sent".to_owned(),
            line => format!("the records after line {line} were not sent"),
        };
        match unanswered {
            0 => unsent,
            1 => format!("{unsent}; 1 message has no result and may have been sent"),
            count => format!("{unsent}; {count} messages have no result and may have been sent"),
        }
    }
}

/// Sends a message for each record.
async fn feed(
    mut rows: RowReader,
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
            // `read_responses` adds a permit for each response.
            Ok(permit) => permit.forget(),
            Err(_) => return Ok(()),
        }
        flow.sent.fetch_add(1, Ordering::Relaxed);
        flow.last_line.store(row.line, Ordering::Relaxed);
        if requests.send(request).await.is_err() {
            return Ok(());
        }
    }
    flow.is_read.store(true, Ordering::Relaxed);
    Ok(())
}

async fn read_responses(
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
            Ok(result) => return Ok(result.map_err(RpcError::from)?),
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
