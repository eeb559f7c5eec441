//! `smsbridge quarantine`: authenticated bodies that could not be read.

use clap::Args;

use super::{
    CliError,
    connect::{ConnectArgs, MAX_RESPONSE_BYTES},
    kept::{self, Action, LARGEST_LIST},
    output::{Output, Table},
    time,
};
use crate::proto::v1::{
    DiscardQuarantinedRequest, ListQuarantinedRequest, QuarantinedBody, ReplayQuarantinedRequest,
    admin_service_client::AdminServiceClient,
};

/// Arguments of `quarantine`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge quarantine
  smsbridge quarantine show 17
  smsbridge quarantine replay --all
  smsbridge quarantine discard 17")]
pub struct QuarantineArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Listed at most, the oldest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Lists, or does what was asked for.
///
/// # Errors
/// Where the bridge can't be reached or refuses, or there is no such body.
pub async fn run(args: QuarantineArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let mut client =
        AdminServiceClient::new(bridge.service()).max_decoding_message_size(MAX_RESPONSE_BYTES);
    let mut output = Output::new(args.connect.json);
    match args.action {
        None => {
            let request = ListQuarantinedRequest { limit: args.limit };
            let bodies = client
                .list_quarantined(bridge.request(request))
                .await?
                .into_inner()
                .bodies;
            let mut table =
                Table::new(&["TIME", "ID", "ENDPOINT", "BYTES", "CONTENT TYPE", "DETAIL"]);
            output.messages(&mut table, &bodies, row)?;
            if bodies.is_empty() {
                output.note("nothing in quarantine")?;
            }
        }
        Some(Action::Show { id }) => {
            let request = ListQuarantinedRequest {
                limit: LARGEST_LIST,
            };
            let body = client
                .list_quarantined(bridge.request(request))
                .await?
                .into_inner()
                .bodies
                .into_iter()
                .find(|body| body.id == id)
                .ok_or_else(|| kept::not_found(&id))?;
            output.message(&body, show)?;
        }
        Some(Action::Replay(which)) => {
            let request = ReplayQuarantinedRequest {
                ids: which.into_ids(),
            };
            let done = client
                .replay_quarantined(bridge.request(request))
                .await?
                .into_inner();
            output.message(&done, |done| format!("{} read this time", done.count))?;
        }
        Some(Action::Discard { ids }) => {
            let request = DiscardQuarantinedRequest { ids };
            let done = client
                .discard_quarantined(bridge.request(request))
                .await?
                .into_inner();
            output.message(&done, |done| format!("{} thrown away", done.count))?;
        }
    }
    Ok(output.flush()?)
}

fn row(body: &QuarantinedBody) -> Vec<String> {
    vec![
        time::show(body.time.as_ref()),
        body.id.clone(),
        body.endpoint.clone(),
        body.body.len().to_string(),
        body.content_type.clone(),
        body.detail.clone(),
    ]
}

fn show(body: &QuarantinedBody) -> String {
    kept::show(
        &[
            ("id", body.id.clone()),
            ("time", time::show(body.time.as_ref())),
            ("endpoint", body.endpoint.clone()),
            ("detail", body.detail.clone()),
            ("content type", body.content_type.clone()),
        ],
        &body.body,
    )
}
