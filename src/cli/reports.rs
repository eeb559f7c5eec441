//! `smsbridge reports`: pulls unread delivery reports.
//!
//! It does not ask for confirmation although the API returns each report once: the bridge stores pulled reports as events
//! before it returns them, so nothing is lost.

use clap::Args;

use super::{
    CliError, codes,
    connect::{ConnectArgs, MAX_RESPONSE_BYTES},
    output::{Column, Output, Table},
    time::show,
};
use crate::proto::v1::{
    DeliveryReport, PullDeliveryReportsRequest, report_service_client::ReportServiceClient,
};

const COLUMNS: &[Column] = &[
    Column::new("DONE").left_out(3),
    Column::new("TO"),
    Column::new("MESSAGE ID"),
    Column::new("SEGMENTS").left_out(1),
    Column::new("PRICE").left_out(2),
    Column::text("STATUS").toned(),
    Column::text("ERROR").left_out(4),
];

#[derive(Debug, Args)]
#[command(
    after_help = "The API returns each report once, to the first client that pulls it. The bridge stores each pulled report as an event \
                  before it prints it, including reports of other applications, which are not printed. To read reports again, or \
                  without pulling: smsbridge events --type 'report.#'

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
    /// Maximum number of reports
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call.
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
    let mut table = Table::new(COLUMNS);
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
