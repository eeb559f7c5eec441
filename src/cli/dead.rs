//! `smsbridge dead`: lists, replays and discards dead letters: commands that could not be carried out.

use clap::Args;

use super::{
    CliError,
    output::Column,
    replay::{self, Admin, ReplayArgs, Replayable},
    time,
};
use crate::proto::v1::{
    DeadLetter, DiscardDeadLettersRequest, DiscardDeadLettersResponse, ListDeadLettersRequest,
    ReplayDeadLettersRequest, ReplayDeadLettersResponse,
};

#[derive(Debug, Args)]
#[command(
    after_help = "The bridge does not carry this out yet: it answers UNIMPLEMENTED.

Examples:
  smsbridge dead
  smsbridge dead show order-17
  smsbridge dead replay order-17 order-18
  smsbridge dead discard order-19"
)]
pub struct DeadArgs {
    #[command(flatten)]
    replay: ReplayArgs,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call, or no item has the id.
pub async fn run(args: DeadArgs) -> Result<(), CliError> {
    replay::run::<DeadLetters>(args.replay).await
}

struct DeadLetters;

impl Replayable for DeadLetters {
    type Item = DeadLetter;
    type Replayed = ReplayDeadLettersResponse;
    type Discarded = DiscardDeadLettersResponse;
    const COLUMNS: &'static [Column] = &[
        Column::new("TIME").left_out(4),
        Column::new("ID"),
        Column::new("APPLICATION").left_out(2),
        Column::new("ROUTING KEY").left_out(3),
        Column::new("BYTES").left_out(1),
        Column::new("REASON"),
        Column::text("DETAIL"),
    ];
    const EMPTY: &'static str = "no dead letters";

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
        replay::show(
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
    ) -> Result<ReplayDeadLettersResponse, CliError> {
        let request = admin.bridge.request(ReplayDeadLettersRequest { ids });
        Ok(admin
            .client
            .replay_dead_letters(request)
            .await?
            .into_inner())
    }

    fn replayed(response: &ReplayDeadLettersResponse) -> i32 {
        response.count
    }

    async fn discard(
        admin: &mut Admin,
        ids: Vec<String>,
    ) -> Result<DiscardDeadLettersResponse, CliError> {
        let request = admin.bridge.request(DiscardDeadLettersRequest { ids });
        Ok(admin
            .client
            .discard_dead_letters(request)
            .await?
            .into_inner())
    }

    fn discarded(response: &DiscardDeadLettersResponse) -> i32 {
        response.count
    }
}
