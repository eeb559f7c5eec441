//! `smsbridge message`: prints all that the event log has of one message.

use clap::Args;
use jiff::Timestamp;

use super::{
    CliError,
    connect::{ConnectArgs, MAX_RESPONSE_BYTES},
    events::row::{COLUMNS, row},
    output::{Output, Table},
    time::parse_past,
};
use crate::{
    message::time::to_proto,
    proto::v1::{GetMessageRequest, sms_service_client::SmsServiceClient},
};

#[derive(Debug, Args)]
#[command(
    after_help = "The result of the send, its reports and its clicks, oldest first. If the log is on the broker, the bridge searches the \
                  stream: --since makes that shorter.

Examples:
  smsbridge message order-17
  smsbridge message order-17 --application shop --since 2h --json"
)]
pub struct MessageArgs {
    /// The message id: yours, or the one that the bridge made
    #[arg(value_name = "ID")]
    message_id: String,
    /// The application of the message; default: that of the credentials
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// Only events since this time: 1h (ago) or a time
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    since: Option<Timestamp>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call, or its log has no event of the message.
pub async fn run(args: MessageArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let request = GetMessageRequest {
        message_id: args.message_id,
        application: args.application.unwrap_or_default(),
        since: args.since.map(to_proto),
    };
    let found = SmsServiceClient::new(bridge.service())
        .max_decoding_message_size(MAX_RESPONSE_BYTES)
        .get_message(bridge.request(request))
        .await?
        .into_inner();
    let mut output = Output::new(args.connect.json);
    output.messages(&mut Table::new(COLUMNS), &found.events, row)?;
    if found.has_more {
        output.note("there are more events: `smsbridge events --message-id ID` reads them all")?;
    }
    Ok(output.flush()?)
}
