//! `smsbridge balance`: prints the account's credit.

use clap::Args;

use super::{CliError, connect::ConnectArgs, output::Output};
use crate::proto::v1::{GetBalanceRequest, account_service_client::AccountServiceClient};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge balance
  smsbridge balance --json")]
pub struct BalanceArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call.
pub async fn run(args: BalanceArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let balance = AccountServiceClient::new(bridge.service())
        .get_balance(bridge.request(GetBalanceRequest {}))
        .await?
        .into_inner();
    let mut output = Output::new(args.connect.json);
    output.message(&balance, |balance| {
        format!("{} {}", balance.balance, balance.currency)
    })?;
    Ok(output.flush()?)
}
