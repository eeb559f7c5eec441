//! `smsbridge logs`: reads the API's logs of sent messages, page by page.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tonic::Code;

use super::{
    CliError, codes,
    connect::{Bridge, ConnectArgs, MAX_RESPONSE_BYTES, Service},
    output::{Column, Output, Table},
    rpc_error::RpcError,
    time::{parse_past, show, show_duration},
};
use crate::{
    message::time::to_proto,
    proto::v1::{
        ListSmsLogsRequest, ListSmsLogsResponse, SmsLog, StatusGroup,
        sms_service_client::SmsServiceClient,
    },
};

/// Rows per page: the API's limit.
const PAGE_SIZE: usize = 1000;
/// The longest wait for the API's quota of log requests, which is per minute.
const LONGEST_WAIT: Duration = Duration::from_secs(90);

const COLUMNS: &[Column] = &[
    Column::new("SENT").left_out(7),
    Column::new("TO"),
    Column::new("FROM").left_out(3),
    Column::text("STATUS").toned(),
    Column::text("ERROR").left_out(5),
    Column::new("SEGMENTS").left_out(1),
    Column::new("PRICE").left_out(2),
    Column::new("MESSAGE ID"),
    Column::new("APPLICATION").left_out(4),
    Column::text("TEXT").left_out(6),
];

#[derive(Debug, Args)]
#[command(
    after_help = "The API keeps its logs for 48 hours; reading does not remove rows. The account has one quota of log requests: if it is \
                  used up, this command waits.

Examples:
  smsbridge logs --since 1h
  smsbridge logs --to 41793026727 --status undeliverable
  smsbridge logs --all --json > logs.jsonl"
)]
pub struct LogsArgs {
    /// Sent since this time: 1h (ago) or a time; default: 48 hours ago
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    since: Option<Timestamp>,
    /// Sent until this time; default: now
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    until: Option<Timestamp>,
    /// Only messages to this number
    #[arg(long, value_name = "NUMBER")]
    to: Option<String>,
    /// Only messages from this sender
    #[arg(long, value_name = "SENDER")]
    from: Option<String>,
    /// Only messages with a status of this group
    #[arg(long)]
    status: Option<StatusFilter>,
    /// Only messages of this bulk; may be repeated
    #[arg(long = "bulk-id", value_name = "ID")]
    bulk_ids: Vec<String>,
    /// Only this message; may be repeated
    #[arg(long = "message-id", value_name = "ID")]
    message_ids: Vec<String>,
    /// Only this mobile country code
    #[arg(long)]
    mcc: Option<String>,
    /// Only this mobile network code
    #[arg(long)]
    mnc: Option<String>,
    /// Maximum number of rows, newest first
    #[arg(long, default_value_t = 50, value_parser = parse_limit)]
    limit: usize,
    /// All rows
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The group of a message's status.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StatusFilter {
    Accepted,
    Pending,
    Undeliverable,
    Delivered,
    Expired,
    Rejected,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call.
pub async fn run(args: LogsArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let mut client =
        SmsServiceClient::new(bridge.service()).max_decoding_message_size(MAX_RESPONSE_BYTES);
    let mut output = Output::new(args.connect.json);
    let mut table = Table::new(COLUMNS);
    let mut missing = if args.all { usize::MAX } else { args.limit };
    let mut request = first_page(args);
    request.page_size =
        i32::try_from(missing.min(PAGE_SIZE)).expect("a page has at most 1000 rows");
    let mut shown = 0_usize;
    loop {
        let mut page = next_page(&mut client, &bridge, &request, &output).await?;
        page.logs.truncate(missing);
        missing -= page.logs.len();
        shown += page.logs.len();
        output.messages(&mut table, &page.logs, row)?;
        output.flush()?;
        if page.next_page_token.is_empty() {
            break;
        }
        if missing == 0 {
            output.note(&format!(
                "these are the newest {shown} rows; for older ones use --limit or --all"
            ))?;
            break;
        }
        request.page_token = page.next_page_token;
    }
    if shown == 0 {
        output.note("no messages in the logs match")?;
    }
    Ok(())
}

fn first_page(args: LogsArgs) -> ListSmsLogsRequest {
    let status = match args.status {
        None => StatusGroup::Unspecified,
        Some(StatusFilter::Accepted) => StatusGroup::Accepted,
        Some(StatusFilter::Pending) => StatusGroup::Pending,
        Some(StatusFilter::Undeliverable) => StatusGroup::Undeliverable,
        Some(StatusFilter::Delivered) => StatusGroup::Delivered,
        Some(StatusFilter::Expired) => StatusGroup::Expired,
        Some(StatusFilter::Rejected) => StatusGroup::Rejected,
    };
    ListSmsLogsRequest {
        from: args.from.unwrap_or_default(),
        to: args.to.unwrap_or_default(),
        bulk_ids: args.bulk_ids,
        message_ids: args.message_ids,
        general_status: status.into(),
        sent_since: args.since.map(to_proto),
        sent_until: args.until.map(to_proto),
        mcc: args.mcc.unwrap_or_default(),
        mnc: args.mnc.unwrap_or_default(),
        ..ListSmsLogsRequest::default()
    }
}

/// Reads a page. Waits if the API's quota is used up.
async fn next_page(
    client: &mut SmsServiceClient<Service>,
    bridge: &Bridge,
    request: &ListSmsLogsRequest,
    output: &Output,
) -> Result<ListSmsLogsResponse, CliError> {
    let mut waited = Duration::ZERO;
    loop {
        let error = match client.list_sms_logs(bridge.request(request.clone())).await {
            Ok(page) => return Ok(page.into_inner()),
            Err(status) => RpcError::from(status),
        };
        match error.retry_after {
            Some(delay)
                if error.code == Code::ResourceExhausted && waited + delay <= LONGEST_WAIT =>
            {
                output.note(&format!(
                    "the quota of log requests is used up: continuing in {}",
                    show_duration(delay)
                ))?;
                // A zero delay must not become a busy loop.
                let delay = delay.max(Duration::from_millis(100));
                tokio::time::sleep(delay).await;
                waited += delay;
            }
            _ => return Err(error.into()),
        }
    }
}

fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number, at least 1".into()),
        Ok(limit) => Ok(limit),
    }
}

fn row(log: &SmsLog) -> Vec<String> {
    vec![
        show(log.sent_at.as_ref()),
        log.to.clone(),
        log.from.clone(),
        codes::status(log.status.as_ref()),
        codes::error(log.error.as_ref()),
        codes::count(log.sms_count),
        codes::price(log.price.as_ref()),
        log.message_id.clone(),
        log.application.clone(),
        log.text.clone(),
    ]
}
