//! `smsbridge dead`: commands that were given up.

use clap::Args;

use super::{
    CliError,
    kept::{self, Admin, Kept, KeptArgs},
    time,
};
use crate::proto::v1::{
    DeadLetter, DiscardDeadLettersRequest, DiscardDeadLettersResponse, ListDeadLettersRequest,
    ReplayDeadLettersRequest, ReplayDeadLettersResponse,
};

/// Arguments of `dead`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge dead
  smsbridge dead show order-17
  smsbridge dead replay order-17 order-18
  smsbridge dead discard order-19")]
pub struct DeadArgs {
    #[command(flatten)]
    kept: KeptArgs,
}

/// Lists, or does what was asked for.
///
/// # Errors
/// Where the bridge can't be reached or refuses, or there is none with the id.
pub async fn run(args: DeadArgs) -> Result<(), CliError> {
    kept::run::<DeadLetters>(args.kept).await
}

/// The kind of what is kept: commands.
struct DeadLetters;

impl Kept for DeadLetters {
    type Item = DeadLetter;
    type Replayed = ReplayDeadLettersResponse;
    type Discarded = DiscardDeadLettersResponse;
    const COLUMNS: &'static [&'static str] = &[
        "TIME",
        "ID",
        "APPLICATION",
        "ROUTING KEY",
        "BYTES",
        "REASON",
        "DETAIL",
    ];
    const NONE: &'static str = "no dead letters";

    fn id(item: &DeadLetter) -> &str {
        &item.id
    }

    fn row(item: &DeadLetter) -> Vec<String> {
        vec![
            time::show(item.time.as_ref()),
            item.id.clone(),
            item.application.clone(),
            item.routing_key.clone(),
            item.body.len().to_string(),
            item.reason.clone(),
            item.detail.clone(),
        ]
    }

    fn show(item: &DeadLetter) -> String {
        kept::show(
            &[
                ("id", item.id.clone()),
                ("time", time::show(item.time.as_ref())),
                ("application", item.application.clone()),
                ("routing key", item.routing_key.clone()),
                ("reason", item.reason.clone()),
                ("detail", item.detail.clone()),
                ("content type", item.content_type.clone()),
            ],
            &item.body,
        )
    }

    async fn list(admin: &mut Admin, limit: i32) -> Result<Vec<DeadLetter>, CliError> {
        let request = admin.bridge.request(ListDeadLettersRequest { limit });
        let listed = admin.client.list_dead_letters(request).await?;
        Ok(listed.into_inner().letters)
    }

    async fn replay(
        admin: &mut Admin,
        ids: Vec<String>,
    ) -> Result<(ReplayDeadLettersResponse, String), CliError> {
        let request = admin.bridge.request(ReplayDeadLettersRequest { ids });
        let done = admin
            .client
            .replay_dead_letters(request)
            .await?
            .into_inner();
        let said = format!("{} published to where they came from", done.count);
        Ok((done, said))
    }

    async fn discard(
        admin: &mut Admin,
        ids: Vec<String>,
    ) -> Result<(DiscardDeadLettersResponse, String), CliError> {
        let request = admin.bridge.request(DiscardDeadLettersRequest { ids });
        let done = admin
            .client
            .discard_dead_letters(request)
            .await?
            .into_inner();
        let said = format!("{} thrown away", done.count);
        Ok((done, said))
    }
}
