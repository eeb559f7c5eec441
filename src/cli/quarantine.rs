//! `smsbridge quarantine`: lists, replays and discards bodies from the API that could not be parsed.

use clap::Args;

use super::{
    CliError,
    output::Column,
    replay::{self, Admin, ReplayArgs, Replayable},
    time,
};
use crate::proto::v1::{
    DiscardQuarantinedRequest, DiscardQuarantinedResponse, ListQuarantinedRequest, QuarantinedBody,
    ReplayQuarantinedRequest, ReplayQuarantinedResponse,
};

#[derive(Debug, Args)]
#[command(
    after_help = "The bridge does not carry this out yet: it answers UNIMPLEMENTED.

Examples:
  smsbridge quarantine
  smsbridge quarantine show 17
  smsbridge quarantine replay --all
  smsbridge quarantine discard 17"
)]
pub struct QuarantineArgs {
    #[command(flatten)]
    replay: ReplayArgs,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call, or no item has the id.
pub async fn run(args: QuarantineArgs) -> Result<(), CliError> {
    replay::run::<Bodies>(args.replay).await
}

struct Bodies;

impl Replayable for Bodies {
    type Item = QuarantinedBody;
    type Replayed = ReplayQuarantinedResponse;
    type Discarded = DiscardQuarantinedResponse;
    const COLUMNS: &'static [Column] = &[
        Column::new("TIME").left_out(3),
        Column::new("ID"),
        Column::new("ENDPOINT"),
        Column::new("BYTES").left_out(1),
        Column::text("CONTENT TYPE").left_out(2),
        Column::text("DETAIL"),
    ];
    const EMPTY: &'static str = "nothing in quarantine";

    fn id(item: &QuarantinedBody) -> &str {
        &item.id
    }

    fn row(item: &QuarantinedBody) -> Vec<String> {
        vec![
            time::show(item.time.as_ref()),
            item.id.clone(),
            item.endpoint.clone(),
            item.body.len().to_string(),
            item.content_type.clone(),
            item.detail.clone(),
        ]
    }

    fn show(item: &QuarantinedBody) -> String {
        replay::show(
            &[
                ("id", item.id.clone()),
                ("time", time::show(item.time.as_ref())),
                ("endpoint", item.endpoint.clone()),
                ("detail", item.detail.clone()),
                ("content type", item.content_type.clone()),
            ],
            &item.body,
        )
    }

    async fn list(admin: &mut Admin, limit: i32) -> Result<Vec<QuarantinedBody>, CliError> {
        let request = admin.bridge.request(ListQuarantinedRequest { limit });
        let listed = admin.client.list_quarantined(request).await?;
        Ok(listed.into_inner().bodies)
    }

    async fn replay(
        admin: &mut Admin,
        ids: Vec<String>,
    ) -> Result<ReplayQuarantinedResponse, CliError> {
        let request = admin.bridge.request(ReplayQuarantinedRequest { ids });
        Ok(admin.client.replay_quarantined(request).await?.into_inner())
    }

    fn replayed(response: &ReplayQuarantinedResponse) -> i32 {
        response.count
    }

    async fn discard(
        admin: &mut Admin,
        ids: Vec<String>,
    ) -> Result<DiscardQuarantinedResponse, CliError> {
        let request = admin.bridge.request(DiscardQuarantinedRequest { ids });
        Ok(admin
            .client
            .discard_quarantined(request)
            .await?
            .into_inner())
    }

    fn discarded(response: &DiscardQuarantinedResponse) -> i32 {
        response.count
    }
}
