//! `smsbridge dead`: commands that were given up.

use clap::Args;

use super::{
    CliError,
    connect::{ConnectArgs, MAX_RESPONSE_BYTES},
    kept::{self, Action, LARGEST_LIST},
    output::{Output, Table},
    time,
};
use crate::proto::v1::{
    DeadLetter, DiscardDeadLettersRequest, ListDeadLettersRequest, ReplayDeadLettersRequest,
    admin_service_client::AdminServiceClient,
};

/// Arguments of `dead`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge dead
  smsbridge dead show order-17
  smsbridge dead replay order-17 order-18
  smsbridge dead discard order-19")]
pub struct DeadArgs {
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
/// Where the bridge can't be reached or refuses, or there is no such letter.
pub async fn run(args: DeadArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let mut client =
        AdminServiceClient::new(bridge.service()).max_decoding_message_size(MAX_RESPONSE_BYTES);
    let mut output = Output::new(args.connect.json);
    match args.action {
        None => {
            let request = ListDeadLettersRequest { limit: args.limit };
            let letters = client
                .list_dead_letters(bridge.request(request))
                .await?
                .into_inner()
                .letters;
            let mut table = Table::new(&[
                "TIME",
                "ID",
                "APPLICATION",
                "ROUTING KEY",
                "BYTES",
                "REASON",
                "DETAIL",
            ]);
            output.messages(&mut table, &letters, row)?;
            if letters.is_empty() {
                output.note("no dead letters")?;
            }
        }
        Some(Action::Show { id }) => {
            let request = ListDeadLettersRequest {
                limit: LARGEST_LIST,
            };
            let letter = client
                .list_dead_letters(bridge.request(request))
                .await?
                .into_inner()
                .letters
                .into_iter()
                .find(|letter| letter.id == id)
                .ok_or_else(|| kept::not_found(&id))?;
            output.message(&letter, show)?;
        }
        Some(Action::Replay(which)) => {
            let request = ReplayDeadLettersRequest {
                ids: which.into_ids(),
            };
            let done = client
                .replay_dead_letters(bridge.request(request))
                .await?
                .into_inner();
            output.message(&done, |done| {
                format!("{} published to where they came from", done.count)
            })?;
        }
        Some(Action::Discard { ids }) => {
            let request = DiscardDeadLettersRequest { ids };
            let done = client
                .discard_dead_letters(bridge.request(request))
                .await?
                .into_inner();
            output.message(&done, |done| format!("{} thrown away", done.count))?;
        }
    }
    Ok(output.flush()?)
}

fn row(letter: &DeadLetter) -> Vec<String> {
    vec![
        time::show(letter.time.as_ref()),
        letter.id.clone(),
        letter.application.clone(),
        letter.routing_key.clone(),
        letter.body.len().to_string(),
        letter.reason.clone(),
        letter.detail.clone(),
    ]
}

fn show(letter: &DeadLetter) -> String {
    kept::show(
        &[
            ("id", letter.id.clone()),
            ("time", time::show(letter.time.as_ref())),
            ("application", letter.application.clone()),
            ("routing key", letter.routing_key.clone()),
            ("reason", letter.reason.clone()),
            ("detail", letter.detail.clone()),
            ("content type", letter.content_type.clone()),
        ],
        &letter.body,
    )
}
