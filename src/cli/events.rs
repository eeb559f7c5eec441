//! `smsbridge events`: reads the event log to its end, or follows it.
//!
//! Invariant: a follower misses no event and repeats none: after a lost connection it continues behind the last printed event. If
//! it has printed none, it continues [`CLOCK_TOLERANCE`] before its start, and may print events of these minutes.

mod last;
pub(super) mod row;

use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use tonic::{Code, Request, Status, Streaming};

use self::row::{COLUMNS, row};
use super::{
    CliError,
    connect::{Bridge, ConnectArgs, MAX_RESPONSE_BYTES},
    output::{Output, Table},
    rpc_error::RpcError,
    time::parse_past,
};
use crate::{
    message::time::to_proto,
    primitives::retry::{Backoff, RetryPolicy},
    proto::v1::{
        Event, EventFilter, StreamEventsRequest, StreamEventsResponse,
        event_service_client::EventServiceClient, stream_events_request::Start,
    },
};

/// How far the clock of this machine may be ahead of the bridge's clock. Without a cursor a follower continues at a time of its own
/// clock, which the bridge compares with the times of its events.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// How long a follower waits before it reconnects.
const RECONNECT: RetryPolicy =
    RetryPolicy::new(Duration::from_millis(250), Duration::from_secs(10));

#[derive(Debug, Args)]
#[command(
    after_help = "Without --follow the command reads from --since or --from (default: the oldest event) to the end of the log. With \
                  --follow it starts at --since, --from, the --last events or now, waits for new events, and reconnects if the \
                  connection is lost. If it has printed no event until then, it continues five minutes before its start. --json \
                  prints each event's cursor, for --from.

Examples:
  smsbridge events --last 20
  smsbridge events --since 1h
  smsbridge events --type 'report.#' --type inbound.received --follow
  smsbridge events --message-id order-17 --json
  smsbridge events --from CURSOR --json >> events.jsonl"
)]
pub struct EventsArgs {
    /// Events since this time: 1h (ago) or a time
    #[arg(long, value_name = "WHEN", value_parser = parse_past, conflicts_with = "from")]
    since: Option<Timestamp>,
    /// Events after the event with this cursor
    #[arg(long, value_name = "CURSOR")]
    from: Option<String>,
    /// Only the newest N events
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "from",
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    last: Option<u32>,
    /// Only events of these types: `report.#`, `*.rejected`, `inbound.received`; may be repeated
    #[arg(long = "type", value_name = "PATTERN", num_args = 1..)]
    types: Vec<String>,
    /// Only events of this application; may be repeated
    #[arg(long = "application", value_name = "NAME")]
    applications: Vec<String>,
    /// Only events of this message; may be repeated
    #[arg(long = "message-id", value_name = "ID")]
    message_ids: Vec<String>,
    /// Wait for new events
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call. With `--follow`: if the first connection fails, or the bridge refuses
/// the call with an error that is not temporary.
pub async fn run(args: EventsArgs) -> Result<(), CliError> {
    let mut bridge = args.connect.connect().await?;
    let mut reader = Reader {
        output: Output::new(args.connect.json),
        table: Table::with_widths(COLUMNS, &[20, 20, 11, 36]),
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
    if let Some(count) = args.last {
        let began = Timestamp::now();
        let events = last::read(&bridge, &filter, args.since, count as usize).await?;
        reader.print(&events)?;
        reader.output.flush()?;
        if !args.follow {
            return reader.note_cursor();
        }
        start = Some(match std::mem::take(&mut reader.cursor) {
            // No event was printed, so none is repeated if the stream starts a little before `began`.
            none if none.is_empty() => Start::Since(to_proto(
                tolerant(began).max(args.since.unwrap_or(Timestamp::MIN)),
            )),
            cursor => Start::Cursor(cursor),
        });
    }
    let mut backoff = Backoff::new(RECONNECT);
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
            return reader.note_cursor();
        }
        if let Err(status) = ended {
            let error = RpcError::from(status);
            if !is_temporary(error.code) {
                return Err(error.into());
            }
            reader.output.note(&format!("{error}: reconnecting"))?;
        }
        if !reader.cursor.is_empty() {
            let cursor = std::mem::take(&mut reader.cursor);
            start = Some(Start::Cursor(cursor));
            backoff.reset();
        } else if start.is_none() {
            // The stream started at now and had no event yet: events before the next connection must not be missed.
            start = Some(Start::Since(to_proto(tolerant(opened_at))));
        }
        bridge = reconnect(&args.connect, &mut backoff).await?;
    }
}

/// A time that the bridge's clock has passed at `now` of this machine.
fn tolerant(now: Timestamp) -> Timestamp {
    now.checked_sub(CLOCK_TOLERANCE)
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Opens the stream. It has no deadline: it may be open for days.
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

/// Reconnects. Retries while the bridge is unreachable.
async fn reconnect(connect: &ConnectArgs, backoff: &mut Backoff) -> Result<Bridge, CliError> {
    loop {
        tokio::time::sleep(backoff.next_wait()).await;
        match connect.connect().await {
            Err(CliError::Unreachable(_)) => {}
            other => return other,
        }
    }
}

/// Whether the same call can succeed later. Broken streams have many codes, so this names those that are about the request.
fn is_temporary(code: Code) -> bool {
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
    /// Cursor of the last printed event. Empty: none yet on this connection.
    cursor: String,
}

impl Reader {
    fn print(&mut self, events: &[Event]) -> std::io::Result<()> {
        self.output.messages(&mut self.table, events, row)?;
        if let Some(event) = events.last() {
            self.cursor.clone_from(&event.cursor);
        }
        Ok(())
    }

    /// Prints events until the stream ends. The inner result is how it ended.
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
            self.print(std::slice::from_ref(&event))?;
            if self.follow {
                self.output.flush()?;
            }
        }
        self.output.flush()?;
        Ok(Ok(()))
    }

    /// Prints how to continue.
    fn note_cursor(&self) -> Result<(), CliError> {
        if self.output.is_json() {
            Ok(())
        } else if self.cursor.is_empty() {
            Ok(self.output.note("no events match")?)
        } else {
            Ok(self.output.note(&format!(
                "continue with: smsbridge events --from {}",
                self.cursor
            ))?)
        }
    }
}
