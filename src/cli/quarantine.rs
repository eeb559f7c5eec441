//! `smsbridge quarantine`: authenticated bodies that could not be read.

use clap::Args;

use super::{
    CliError,
    kept::{self, Admin, Kept, KeptArgs},
    time,
};
use crate::proto::v1::{
    DiscardQuarantinedRequest, DiscardQuarantinedResponse, ListQuarantinedRequest, QuarantinedBody,
    ReplayQuarantinedRequest, ReplayQuarantinedResponse,
};

/// Arguments of `quarantine`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge quarantine
  smsbridge quarantine show 17
  smsbridge quarantine replay --all
  smsbridge quarantine discard 17")]
pub struct QuarantineArgs {
    #[command(flatten)]
    kept: KeptArgs,
}

/// Lists, or does what was asked for.
///
/// # Errors
/// Where the bridge can't be reached or refuses, or there is none with the id.
pub async fn run(args: QuarantineArgs) -> Result<(), CliError> {
    kept::run::<Bodies>(args.kept).await
}

/// The kind of what is kept: bodies that Infobip sent.
struct Bodies;

impl Kept for Bodies {
    type Item = QuarantinedBody;
    type Replayed = ReplayQuarantinedResponse;
    type Discarded = DiscardQuarantinedResponse;
    const COLUMNS: &'static [&'static str] =
        &["TIME", "ID", "ENDPOINT", "BYTES", "CONTENT TYPE", "DETAIL"];
    const NONE: &'static str = "nothing in quarantine";

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
        kept::show(
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
    ) -> Result<(ReplayQuarantinedResponse, String), CliError> {
        let request = admin.bridge.request(ReplayQuarantinedRequest { ids });
        let done = admin.client.replay_quarantined(request).await?.into_inner();
        let said = format!("{} read this time", done.count);
        Ok((done, said))
    }

    async fn discard(
        admin: &mut Admin,
        ids: Vec<String>,
    ) -> Result<(DiscardQuarantinedResponse, String), CliError> {
        let request = admin.bridge.request(DiscardQuarantinedRequest { ids });
        let done = admin
            .client
            .discard_quarantined(request)
            .await?
            .into_inner();
        let said = format!("{} thrown away", done.count);
        Ok((done, said))
    }
}
