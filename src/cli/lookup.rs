//! `smsbridge lookup`: looks up numbers: network, porting, roaming.

use std::path::PathBuf;

use clap::Args;

use super::{
    CliError, codes,
    connect::{Bridge, ConnectArgs, MAX_RESPONSE_BYTES},
    numbers::{OtherColumns, RowReader},
    output::{Column, Output, Table},
};
use crate::proto::v1::{
    LookupNumbersRequest, NumberLookup, RequestNumberLookupRequest,
    lookup_service_client::LookupServiceClient,
};

/// Numbers per call: the API's limit for one request, so that the first results are printed early.
const NUMBERS_PER_CALL: usize = 1000;

const COLUMNS: &[Column] = &[
    Column::new("NUMBER"),
    Column::text("STATUS").toned(),
    Column::new("MCC/MNC"),
    Column::text("NETWORK"),
    Column::text("PORTED TO").left_out(2),
    Column::text("ROAMING IN").left_out(1),
    Column::text("ERROR"),
];

#[derive(Debug, Args)]
#[command(after_help = "Infobip charges for each look-up of a number.

Examples:
  smsbridge lookup 41793026727 385911234567
  smsbridge lookup --file numbers.csv --json
  smsbridge lookup 41793026727 --async && smsbridge events --type lookup.completed --follow")]
pub struct LookupArgs {
    /// Numbers in international format
    #[arg(value_name = "NUMBER", required_unless_present = "file")]
    numbers: Vec<String>,
    /// A file with one number per line, or a CSV file with a column `to` (others are ignored); `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "numbers")]
    file: Option<PathBuf>,
    /// Do not wait for results: they become `lookup.completed` events
    #[arg(long = "async")]
    asynchronous: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// # Errors
/// If the file cannot be read, or the bridge cannot be reached or refuses the call.
pub async fn run(args: LookupArgs) -> Result<(), CliError> {
    let numbers = match &args.file {
        Some(file) => from_file(file).await?,
        None => args.numbers,
    };
    let bridge = args.connect.connect().await?;
    let mut output = Output::new(args.connect.json);
    let mut table = Table::new(COLUMNS);
    for chunk in numbers.chunks(NUMBERS_PER_CALL) {
        let results = look_up(&bridge, chunk.to_vec(), args.asynchronous).await?;
        output.messages(&mut table, &results, row)?;
        output.flush()?;
    }
    Ok(())
}

async fn look_up(
    bridge: &Bridge,
    to: Vec<String>,
    asynchronous: bool,
) -> Result<Vec<NumberLookup>, CliError> {
    let mut client =
        LookupServiceClient::new(bridge.service()).max_decoding_message_size(MAX_RESPONSE_BYTES);
    if asynchronous {
        let request = bridge.request(RequestNumberLookupRequest { to });
        let accepted = client.request_number_lookup(request).await?;
        return Ok(accepted.into_inner().results);
    }
    let request = bridge.request(LookupNumbersRequest {
        to,
        request_id: String::new(),
    });
    Ok(client.lookup_numbers(request).await?.into_inner().results)
}

async fn from_file(file: &std::path::Path) -> Result<Vec<String>, CliError> {
    let mut rows = RowReader::open(file, &["to"], OtherColumns::Ignored).await?;
    let mut numbers = Vec::new();
    while let Some(mut row) = rows.next().await? {
        numbers.push(row.take("to"));
    }
    if numbers.is_empty() {
        return Err(CliError::Usage(format!(
            "{} has no numbers",
            file.display()
        )));
    }
    Ok(numbers)
}

fn row(lookup: &NumberLookup) -> Vec<String> {
    let where_known = |known: Option<bool>, network: Option<&_>| match known {
        Some(true) => codes::network(network),
        Some(false) => "no".into(),
        None => String::new(),
    };
    vec![
        lookup.to.clone(),
        codes::status(lookup.status.as_ref()),
        lookup.mcc_mnc.clone(),
        codes::network(lookup.original_network.as_ref()),
        where_known(lookup.ported, lookup.ported_network.as_ref()),
        where_known(lookup.roaming, lookup.roaming_network.as_ref()),
        match &lookup.refusal {
            Some(refusal) => format!("{}: {}", refusal.reason, refusal.detail),
            None => codes::error(lookup.error.as_ref()),
        },
    ]
}
