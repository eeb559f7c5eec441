//! `smsbridge inbox`: pulls received messages (MO), or lists them from the API's log.

use clap::Args;
use jiff::Timestamp;

use super::{
    CliError, codes,
    connect::{Bridge, ConnectArgs, MAX_RESPONSE_BYTES},
    output::{Column, Output, Table},
    time::{parse_past, show},
};
use crate::{
    message::time::to_proto,
    proto::v1::{
        ListReceivedMessagesRequest, PullReceivedMessagesRequest, ReceivedMessage,
        inbox_service_client::InboxServiceClient,
    },
};

const COLUMNS: &[Column] = &[
    Column::new("RECEIVED").left_out(3),
    Column::new("FROM"),
    Column::new("TO").left_out(2),
    Column::new("KEYWORD").left_out(1),
    Column::new("MESSAGE ID"),
    Column::text("TEXT"),
];

#[derive(Debug, Args)]
#[command(
    after_help = "The API returns each received message once, to the first client that pulls it. The bridge stores each pulled message \
                  as an event before it prints it, including messages of other applications, which are not printed. --list reads \
                  messages without pulling them.

Examples:
  smsbridge inbox
  smsbridge inbox --list --since 6h --to 41790000000
  smsbridge events --type inbound.received --follow"
)]
pub struct InboxArgs {
    /// List messages from the API's log of the last 48 hours instead of pulling unread ones
    #[arg(long)]
    list: bool,
    /// With --list: received since this time: 6h (ago) or a time
    #[arg(long, value_name = "WHEN", value_parser = parse_past, requires = "list")]
    since: Option<Timestamp>,
    /// With --list: received until this time
    #[arg(long, value_name = "WHEN", value_parser = parse_past, requires = "list")]
    until: Option<Timestamp>,
    /// With --list: only messages to this number
    #[arg(long, value_name = "NUMBER", requires = "list")]
    to: Option<String>,
    /// With --list: only messages with this keyword; NO_KEYWORD: only messages without one
    #[arg(long, requires = "list")]
    keyword: Option<String>,
    /// Maximum number of messages
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call.
pub async fn run(args: InboxArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let mut output = Output::new(args.connect.json);
    let mut table = Table::new(COLUMNS);
    if args.list {
        let messages = list(args, &bridge).await?;
        output.messages(&mut table, &messages, row)?;
        if messages.is_empty() {
            output.note("no messages match")?;
        }
    } else {
        let pulled = client(&bridge)
            .pull_received_messages(
                bridge.request(PullReceivedMessagesRequest { limit: args.limit }),
            )
            .await?
            .into_inner();
        output.messages(&mut table, &pulled.messages, row)?;
        if pulled.messages.is_empty() {
            output.note("no unread messages")?;
        }
        if pulled.pending_message_count > 0 {
            output.note(&format!(
                "{} more are unread in the whole account",
                pulled.pending_message_count
            ))?;
        }
    }
    Ok(output.flush()?)
}

async fn list(args: InboxArgs, bridge: &Bridge) -> Result<Vec<ReceivedMessage>, CliError> {
    let request = ListReceivedMessagesRequest {
        to: args.to.unwrap_or_default(),
        received_since: args.since.map(to_proto),
        received_until: args.until.map(to_proto),
        limit: args.limit,
        keyword: args.keyword.unwrap_or_default(),
    };
    let listed = client(bridge)
        .list_received_messages(bridge.request(request))
        .await?;
    Ok(listed.into_inner().messages)
}

fn client(bridge: &Bridge) -> InboxServiceClient<super::connect::Service> {
    InboxServiceClient::new(bridge.service()).max_decoding_message_size(MAX_RESPONSE_BYTES)
}

fn row(message: &ReceivedMessage) -> Vec<String> {
    vec![
        show(message.received_at.as_ref()),
        message.from.clone(),
        message.to.clone(),
        message.keyword.clone(),
        message.message_id.clone(),
        codes::content(message),
    ]
}
