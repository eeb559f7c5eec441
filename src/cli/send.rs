//! `smsbridge send`: sends one message to one or more numbers, or a message for each record of a file.

mod amqp;
mod file;
mod tally;

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use tonic::Code;
use uuid::Uuid;

use self::tally::{Tally, repeat};
use super::{
    CliError, codes,
    connect::{Bridge, ConnectArgs, MAX_RESPONSE_BYTES},
    interrupt::interrupted,
    output::{Column, Output, Table},
    rpc_error::RpcError,
    time::{parse_duration, parse_future},
};
use crate::{
    message::time::to_proto,
    proto::v1::{
        BinaryContent, Destination, Language, OutboundMessage, Outcome, Priority, SendResult,
        SendSmsRequest, outbound_message::Content, sms_service_client::SmsServiceClient,
    },
};

const COLUMNS: &[Column] = &[
    Column::new("TO"),
    Column::new("MESSAGE ID"),
    Column::new("OUTCOME").toned(),
    Column::new("SEGMENTS").left_out(1),
    Column::text("STATUS"),
];

#[derive(Debug, Args)]
#[command(
    after_help = "A file is CSV with a header: the column `to`, and optionally `text`, `message_id` and `from`; or it has one number per \
                  line. Options of the command line replace empty fields. Every send has a request id: a repeated command with the \
                  same id (and the same file) sends nothing twice.

Exit status: 0 if all were accepted, 1 if any was rejected, was not sent, or has an unknown outcome, 130 after Ctrl-C.

Examples:
  smsbridge send 41793026727 --text 'Hello' --from InfoSMS
  smsbridge send 41793026727 385911234567 --text 'Your code is 1234' --urgent --validity 5m
  smsbridge send 41793026727 --hex 0048006f --data-coding 8
  smsbridge send --file numbers.csv --text 'Sale until Friday' --request-id sale-2026-11
  grep -h ^41 numbers-*.txt | smsbridge send --file - --text 'Hello'
  smsbridge send --amqp-url amqp://guest:guest@127.0.0.1:5672/%2f 41793026727 --text 'Hello'
  SMSBRIDGE_AMQP__URL=$(cat amqp-url) smsbridge send --amqp-url env 41793026727 --text 'Hello'"
)]
pub struct SendArgs {
    /// Numbers in international format, such as 41793026727
    #[arg(required_unless_present = "file")]
    to: Vec<String>,
    /// Text of the message
    #[arg(long, required_unless_present_any = ["hex", "file"])]
    text: Option<String>,
    /// Binary content in hex instead of a text
    #[arg(long, conflicts_with = "text", value_parser = parse_hex)]
    hex: Option<Octets>,
    /// With --hex: data coding, 0 to 255: 4 is 8-bit data, 8 is UCS-2
    #[arg(long, requires = "hex", default_value_t = 0)]
    data_coding: u8,
    /// With --hex: ESM class, 0 to 255: 64 if the content begins with a user data header
    #[arg(long, requires = "hex", default_value_t = 0)]
    esm_class: u8,
    /// The sender: 3 to 11 characters, or 3 to 14 digits; default: the application's
    #[arg(long, value_name = "SENDER")]
    from: Option<String>,
    /// A file with one message per record; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    file: Option<PathBuf>,
    /// With --file: maximum number of messages in flight
    #[arg(
        long,
        value_name = "N",
        requires = "file",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    in_flight: u32,
    /// The id of this request; default: a new one
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// The message id, for one number; default: derived from the request id
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    message_id: Option<String>,
    /// The bulk id, needed to reschedule or cancel a message with --send-at
    #[arg(long, value_name = "ID")]
    bulk_id: Option<String>,
    /// Send before waiting messages of normal priority
    #[arg(long)]
    urgent: bool,
    /// When to send: 2h (from now) or a time, at most 180 days ahead
    #[arg(long, value_name = "WHEN", value_parser = parse_future)]
    send_at: Option<Timestamp>,
    /// How long the network tries to deliver: whole minutes, at most 48h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    validity: Option<std::time::Duration>,
    /// The bridge does not send the message after this time
    #[arg(long, value_name = "WHEN", value_parser = parse_future)]
    expires_at: Option<Timestamp>,
    /// Send as a flash message, which the handset displays at once
    #[arg(long)]
    flash: bool,
    /// National language tables: TR, ES or PT, with the single shift table
    #[arg(long, value_name = "CODE", conflicts_with = "hex")]
    language: Option<String>,
    /// With --language: use the locking shift table too
    #[arg(long, requires = "language")]
    locking_shift: bool,
    /// TURKISH, GREEK, CYRILLIC, CENTRAL_EUROPEAN or NON_UNICODE
    #[arg(long, value_name = "SCRIPT", conflicts_with = "hex")]
    transliteration: Option<String>,
    /// Data that is returned in reports
    #[arg(long, value_name = "DATA")]
    callback_data: Option<String>,
    /// Report errors that are not final, too
    #[arg(long)]
    intermediate_report: bool,
    #[command(flatten)]
    broker: amqp::BrokerArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Clone)]
struct Octets(Vec<u8>);

/// # Errors
/// If the bridge cannot be reached or refuses the call, the file is invalid, or any message was not accepted.
pub async fn run(args: SendArgs) -> Result<(), CliError> {
    if args.message_id.is_some() && args.to.len() != 1 {
        return Err(CliError::Usage(
            "--message-id needs exactly one number; for several numbers use --request-id".into(),
        ));
    }
    let request_id = match &args.request_id {
        Some(id) => id.clone(),
        None => Uuid::now_v7().to_string(),
    };
    match &args.file {
        None => tokio::select! {
            sent = send_one(&args, request_id.clone()) => sent,
            () = interrupted() => Err(CliError::Interrupted(format!(
                "interrupted before the result was there: the message may have been sent\n  {}",
                repeat(&request_id)
            ))),
        },
        Some(file) => {
            // Check the header before connecting.
            let rows = file::open(file).await?;
            let bridge = args.connect.connect().await?;
            file::send(rows, &args, &request_id, &bridge).await
        }
    }
}

async fn send_one(args: &SendArgs, request_id: String) -> Result<(), CliError> {
    let destinations = args.to.iter().map(|to| Destination {
        to: to.clone(),
        message_id: args.message_id.clone().unwrap_or_default(),
    });
    let request = SendSmsRequest {
        request_id: request_id.clone(),
        message: Some(OutboundMessage {
            destinations: destinations.collect(),
            ..message(args)
        }),
        bulk_id: args.bulk_id.clone().unwrap_or_default(),
        tracking: None,
    };
    let sent = match args.broker.endpoint()? {
        Some(broker) => {
            args.broker
                .send(&broker, &request, args.connect.timeout())
                .await?
        }
        None => {
            let bridge = args.connect.connect().await?;
            client(&bridge)
                .send_sms(bridge.request(request))
                .await
                .map_err(|status| explain(status.into(), &request_id))?
                .into_inner()
        }
    };
    let mut output = Output::new(args.connect.json);
    if output.is_json() {
        output.json(&sent)?;
    } else {
        let mut table = Table::new(COLUMNS);
        output.messages(&mut table, &sent.results, row)?;
    }
    output.flush()?;
    let mut tally = Tally::default();
    for result in &sent.results {
        tally.add(result);
    }
    let all = sent.results.len() as u64;
    tally.outcome(all, &request_id, &format!(" (request id {request_id})"))
}

fn client(bridge: &Bridge) -> SmsServiceClient<super::connect::Service> {
    SmsServiceClient::new(bridge.service()).max_decoding_message_size(MAX_RESPONSE_BYTES)
}

/// The message of the command line, without destinations.
fn message(args: &SendArgs) -> OutboundMessage {
    let text = || args.text.clone().map(Content::Text);
    let binary = |octets: &Octets| {
        Content::Binary(BinaryContent {
            data: octets.0.clone().into(),
            data_coding: args.data_coding.into(),
            esm_class: args.esm_class.into(),
        })
    };
    OutboundMessage {
        from: args.from.clone().unwrap_or_default(),
        content: args.hex.as_ref().map(binary).or_else(text),
        flash: args.flash,
        language: args.language.as_ref().map(|code| {
            Box::new(Language {
                language_code: code.clone(),
                single_shift: true,
                locking_shift: args.locking_shift,
            })
        }),
        transliteration: args.transliteration.clone().unwrap_or_default(),
        intermediate_report: args.intermediate_report,
        callback_data: args.callback_data.clone().unwrap_or_default(),
        validity_period: args.validity.map(Into::into),
        send_at: args.send_at.map(to_proto),
        expires_at: args.expires_at.map(to_proto),
        priority: if args.urgent {
            Priority::Urgent.into()
        } else {
            Priority::Unspecified.into()
        },
        ..OutboundMessage::default()
    }
}

/// The error of a call. If the outcome may be in doubt, with the command's request id.
fn explain(error: RpcError, request_id: &str) -> CliError {
    match error.code {
        Code::DeadlineExceeded
        | Code::Unavailable
        | Code::Unknown
        | Code::Internal
        | Code::Cancelled => CliError::Failed(format!("{error}\n  {}", repeat(request_id))),
        _ => error.into(),
    }
}

fn is_accepted(result: &SendResult) -> bool {
    result.outcome() == Outcome::Accepted
}

fn row(result: &SendResult) -> Vec<String> {
    vec![
        result.to.clone(),
        result.message_id.clone(),
        codes::outcome(result),
        codes::count(result.sms_count),
        codes::reason(result),
    ]
}

fn parse_hex(text: &str) -> Result<Octets, String> {
    hex::decode(text)
        .map(Octets)
        .map_err(|error| format!("expected two hex digits for each octet: {error}"))
}
