//! `smsbridge events`: reads the event log, to its end or for as long as it runs.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tonic::{Code, Request, Status, Streaming};

use super::{
    CliError, codes,
    connect::{Bridge, CallError, ConnectArgs, MAX_RESPONSE_BYTES},
    output::{Output, Table},
    time::{parse_past, show},
};
use crate::{
    events::filter::message_id,
    message::time::to_proto,
    proto::v1::{
        Event, EventFilter, StreamEventsRequest, StreamEventsResponse, event::Payload,
        event_service_client::EventServiceClient, stream_events_request::Start,
    },
};

/// How long a follower waits before it connects again: at first, and at most.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Arguments of `events`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --follow it reads from --since or --from (default: the oldest event) and ends where the
log ends. With --follow it begins now, unless told otherwise, waits for more, and connects again
where the connection breaks. --json shows each event's cursor, for --from.

Examples:
  smsbridge events --since 1h
  smsbridge events --type 'report.#' --type inbound.received --follow
  smsbridge events --message-id order-17 --json
  smsbridge events --from CURSOR --json >> events.jsonl"
)]
pub struct EventsArgs {
    /// From then on: 1h (ago) or a moment
    #[arg(long, value_name = "WHEN", value_parser = parse_past, conflicts_with = "from")]
    since: Option<Timestamp>,
    /// After the event with this cursor
    #[arg(long, value_name = "CURSOR")]
    from: Option<String>,
    /// Only these types: `report.#`, `*.rejected`, `inbound.received`; may be repeated
    #[arg(long = "type", value_name = "PATTERN", num_args = 1..)]
    types: Vec<String>,
    /// Only events of this application; may be repeated
    #[arg(long = "application", value_name = "NAME")]
    applications: Vec<String>,
    /// Only events of this message; may be repeated
    #[arg(long = "message-id", value_name = "ID")]
    message_ids: Vec<String>,
    /// Wait for more
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Reads and prints.
///
/// # Errors
/// Where the bridge can't be reached or refuses; with `--follow` only where that can't get better by waiting, or at the
/// first try.
pub async fn run(args: EventsArgs) -> Result<(), CliError> {
    let mut bridge = args.connect.connect().await?;
    let mut reader = Reader {
        output: Output::new(args.connect.json),
        table: Table::with_widths(
            &["TIME", "TYPE", "APPLICATION", "MESSAGE ID", "WHAT"],
            &[20, 20, 11, 36],
        ),
        follow: args.follow,
        cursor: String::new(),
    };
    let filter = EventFilter {
        types: args.types,
        applications: args.applications,
        message_ids: args.message_ids,
    };
    let mut start = match (args.from, args.since, args.follow) {
        (Some(cursor), _, _) => Some(Start::Cursor(cursor)),
        (None, Some(since), _) => Some(Start::Since(to_proto(since))),
        (None, None, true) => None,
        (None, None, false) => Some(Start::Since(to_proto(Timestamp::UNIX_EPOCH))),
    };
    let mut wait = FIRST_WAIT;
    loop {
        let opened_at = Timestamp::now();
        let request = StreamEventsRequest {
            start: start.clone(),
            filter: Some(filter.clone()),
            end_at_head: !args.follow,
        };
        let ended = match open(&bridge, request).await {
            Ok(events) => reader.read(events).await?,
            Err(status) => Err(status),
        };
        if !args.follow {
            ended?;
            reader.note_cursor()?;
            return Ok(());
        }
        if let Err(status) = ended {
            let error = CallError::from(status);
            if !may_get_better(error.code) {
                return Err(error.into());
            }
            reader.output.note(&format!("{error}: connecting again"))?;
        }
        if !reader.cursor.is_empty() {
            let cursor = std::mem::take(&mut reader.cursor);
            start = Some(Start::Cursor(cursor));
            wait = FIRST_WAIT;
        } else if start.is_none() {
            // Began at now and saw nothing yet: what happens until the next connection stands is not to be missed.
            start = Some(Start::Since(to_proto(opened_at)));
        }
        bridge = reconnect(&args.connect, &mut wait).await?;
    }
}

/// Opens the stream. Only an answer to a question that ends has a deadline.
async fn open(
    bridge: &Bridge,
    request: StreamEventsRequest,
) -> Result<Streaming<StreamEventsResponse>, Status> {
    EventServiceClient::new(bridge.service())
        .max_decoding_message_size(MAX_RESPONSE_BYTES)
        .stream_events(Request::new(request))
        .await
        .map(tonic::Response::into_inner)
}

/// Waits, longer each time, until a bridge answers.
async fn reconnect(connect: &ConnectArgs, wait: &mut Duration) -> Result<Bridge, CliError> {
    loop {
        tokio::time::sleep(*wait).await;
        *wait = (*wait * 2).min(LONGEST_WAIT);
        match connect.connect().await {
            Err(CliError::Unreachable(_)) => {}
            other => return other,
        }
    }
}

/// Whether the same call can succeed later. A stream that breaks has many codes; those that speak of the request have few.
fn may_get_better(code: Code) -> bool {
    !matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
    )
}

struct Reader {
    output: Output,
    table: Table,
    follow: bool,
    /// Of the last event that was printed. Empty: none yet on this connection.
    cursor: String,
}

impl Reader {
    /// Prints until the stream ends; the inner result says how.
    async fn read(
        &mut self,
        mut events: Streaming<StreamEventsResponse>,
    ) -> Result<Result<(), Status>, CliError> {
        loop {
            let event = match events.message().await {
                Ok(Some(response)) => response.event.unwrap_or_default(),
                Ok(None) => break,
                Err(status) => {
                    self.output.flush()?;
                    return Ok(Err(status));
                }
            };
            self.output
                .messages(&mut self.table, std::slice::from_ref(&event), row)?;
            if self.follow {
                self.output.flush()?;
            }
            self.cursor = event.cursor;
        }
        self.output.flush()?;
        Ok(Ok(()))
    }

    /// Says where to go on, for people.
    fn note_cursor(&self) -> Result<(), CliError> {
        if self.output.is_json() {
            Ok(())
        } else if self.cursor.is_empty() {
            Ok(self.output.note("no such events")?)
        } else {
            Ok(self
                .output
                .note(&format!("what comes next: --from {}", self.cursor))?)
        }
    }
}

fn row(event: &Event) -> Vec<String> {
    vec![
        show(event.time.as_ref()),
        event.r#type.clone(),
        event.application.clone(),
        message_id(event).unwrap_or_default().to_owned(),
        what(event),
    ]
}

/// What happened, in one line.
fn what(event: &Event) -> String {
    let joined = |parts: &[&str]| {
        parts
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("  ")
    };
    match &event.payload {
        None => String::new(),
        Some(Payload::Result(result)) => joined(&[&result.to, &codes::why(result)]),
        Some(Payload::Report(report)) => joined(&[
            &report.to,
            &codes::status(report.status.as_ref()),
            &codes::error(report.error.as_ref()),
        ]),
        Some(Payload::Received(message)) => joined(&[
            &format!("{} to {}", message.from, message.to),
            &codes::content(message),
        ]),
        Some(Payload::Click(click)) => joined(&[&click.recipient, &click.url]),
        Some(Payload::Lookup(lookup)) => joined(&[
            &lookup.to,
            &codes::status(lookup.status.as_ref()),
            &codes::network(lookup.original_network.as_ref()),
        ]),
        Some(Payload::InvalidCommand(invalid)) => {
            joined(&[&invalid.routing_key, &invalid.reason, &invalid.detail])
        }
    }
}
