//! `smsbridge reconcile`: makes the bridge compare the API's logs with its event log and publish missing reports.

use clap::Args;
use jiff::Timestamp;

use super::{
    CliError,
    connect::ConnectArgs,
    output::{Column, Output, Table},
    time::parse_past,
};
use crate::{
    message::time::to_proto,
    proto::v1::{ReconcileRequest, admin_service_client::AdminServiceClient},
};

#[derive(Debug, Args)]
#[command(
    after_help = "The bridge does not carry this out yet: it answers UNIMPLEMENTED.

Examples:
  smsbridge reconcile
  smsbridge reconcile --since 6h
  smsbridge reconcile --since 2026-11-22T08:00:00Z --until 2026-11-22T10:00:00Z"
)]
pub struct ReconcileArgs {
    /// Start of the time range: 6h (ago) or a time; default: 48 hours ago, the oldest that the API keeps
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    since: Option<Timestamp>,
    /// End of the time range; default: now
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    until: Option<Timestamp>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call.
pub async fn run(args: ReconcileArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let found = AdminServiceClient::new(bridge.service())
        .reconcile(bridge.request(ReconcileRequest {
            since: args.since.map(to_proto),
            until: args.until.map(to_proto),
        }))
        .await?
        .into_inner();
    let mut output = Output::new(args.connect.json);
    output.messages(
        &mut Table::new(const { &[Column::new("ROWS READ"), Column::new("REPORTS PUBLISHED")] }),
        &[found],
        |found| {
            vec![
                found.rows_read.to_string(),
                found.reports_published.to_string(),
            ]
        },
    )?;
    Ok(output.flush()?)
}
