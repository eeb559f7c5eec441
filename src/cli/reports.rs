//! `smsbridge reports`: pulls unread delivery reports.
//!
//! It asks no question although it consumes: what is read is in the event log before this command sees it, so nothing is
//! lost by running it.

use clap::Args;

use super::{
    CliError, codes,
    connect::{ConnectArgs, MAX_RESPONSE_BYTES},
    output::{Output, Table},
    time::show,
};
use crate::proto::v1::{
    DeliveryReport, PullDeliveryReportsRequest, report_service_client::ReportServiceClient,
};

/// Arguments of `reports`.
#[derive(Debug, Args)]
#[command(
    after_help = "The API gives each report once, to whoever asks first. Whatever is read here becomes an event
before you see it, also the reports of other applications, which are not shown. To read
reports again, or without taking them: smsbridge events --type 'report.#'

Examples:
  smsbridge reports
  smsbridge reports --message-id order-17 --json"
)]
pub struct ReportsArgs {
    /// Only reports of this bulk
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    bulk_id: String,
    /// Only the report of this message
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    message_id: String,
    /// Reports at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Pulls and prints.
///
/// # Errors
/// Where the bridge can't be reached or refuses.
pub async fn run(args: ReportsArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let reports = ReportServiceClient::new(bridge.service())
        .max_decoding_message_size(MAX_RESPONSE_BYTES)
        .pull_delivery_reports(bridge.request(PullDeliveryReportsRequest {
            bulk_id: args.bulk_id,
            message_id: args.message_id,
            limit: args.limit,
        }))
        .await?
        .into_inner()
        .reports;
    let mut output = Output::new(args.connect.json);
    let mut table = Table::new(&[
        "DONE",
        "TO",
        "MESSAGE ID",
        "SEGMENTS",
        "PRICE",
        "STATUS",
        "ERROR",
    ]);
    output.messages(&mut table, &reports, row)?;
    if reports.is_empty() {
        output.note("no unread reports")?;
    }
    Ok(output.flush()?)
}

fn row(report: &DeliveryReport) -> Vec<String> {
    vec![
        show(report.done_at.as_ref()),
        report.to.clone(),
        report.message_id.clone(),
        codes::count(report.sms_count),
        codes::price(report.price.as_ref()),
        codes::status(report.status.as_ref()),
        codes::error(report.error.as_ref()),
    ]
}
