//! `smsbridge statuses`: prints the code tables of statuses and GSM errors.

use clap::Args;

use super::{
    CliError,
    connect::{Bridge, ConnectArgs},
    output::{Column, Output, Table},
};
use crate::proto::v1::{
    ListErrorsRequest, ListStatusesRequest, StatusGroupEntry,
    reference_service_client::ReferenceServiceClient,
};

const STATUSES: &[Column] = &[
    Column::new("ID"),
    Column::new("NAME").toned(),
    Column::new("GROUP").left_out(1),
    Column::new("FINAL"),
    Column::text("DESCRIPTION"),
];
const ERRORS: &[Column] = &[
    Column::new("ID"),
    Column::new("NAME"),
    Column::new("GROUP").left_out(1),
    Column::new("PERMANENT"),
    Column::text("DESCRIPTION"),
];

#[derive(Debug, Args)]
#[command(
    after_help = "FINAL: a report with this status is the last one of its message. The API may return codes that are not in these tables.

Examples:
  smsbridge statuses
  smsbridge statuses --errors"
)]
pub struct StatusesArgs {
    /// Print the GSM errors instead
    #[arg(long)]
    errors: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call.
pub async fn run(args: StatusesArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let mut output = Output::new(args.connect.json);
    if args.errors {
        errors(&bridge, &mut output).await?;
    } else {
        statuses(&bridge, &mut output).await?;
    }
    Ok(output.flush()?)
}

async fn statuses(bridge: &Bridge, output: &mut Output) -> Result<(), CliError> {
    let listed = ReferenceServiceClient::new(bridge.service())
        .list_statuses(bridge.request(ListStatusesRequest {}))
        .await?
        .into_inner();
    let is_final = |id: i32| {
        let mut groups = listed.groups.iter();
        let group = groups.find(|group: &&StatusGroupEntry| group.id == id);
        group.is_some_and(|group| group.r#final)
    };
    output.messages(&mut Table::new(STATUSES), &listed.statuses, |status| {
        vec![
            status.id.to_string(),
            status.name.clone(),
            status.group_name.clone(),
            yes_or_no(is_final(status.group_id)),
            status.description.clone(),
        ]
    })?;
    Ok(())
}

async fn errors(bridge: &Bridge, output: &mut Output) -> Result<(), CliError> {
    let listed = ReferenceServiceClient::new(bridge.service())
        .list_errors(bridge.request(ListErrorsRequest {}))
        .await?
        .into_inner();
    output.messages(&mut Table::new(ERRORS), &listed.errors, |error| {
        vec![
            error.id.to_string(),
            error.name.clone(),
            error.group_name.clone(),
            yes_or_no(error.permanent),
            error.description.clone(),
        ]
    })?;
    Ok(())
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}
