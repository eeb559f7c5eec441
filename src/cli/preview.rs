//! `smsbridge preview`: prints how many segments a text has, in each encoding.

use clap::Args;

use super::{
    CliError,
    connect::ConnectArgs,
    output::{Column, Output, Table},
};
use crate::proto::v1::{PreviewSmsRequest, SmsPreview, sms_service_client::SmsServiceClient};

const COLUMNS: &[Column] = &[
    Column::new("SEGMENTS"),
    Column::new("REMAINING"),
    Column::new("LANGUAGE").left_out(1),
    Column::new("TRANSLITERATION").left_out(2),
    Column::text("TEXT"),
];

#[derive(Debug, Args)]
#[command(
    after_help = "REMAINING is the number of characters that still fit into the last segment. Nothing is sent.

Examples:
  smsbridge preview 'Hello'
  smsbridge preview 'Çok güzel' --language TR --transliteration TURKISH"
)]
pub struct PreviewArgs {
    /// The text
    text: String,
    /// National language tables: TR, ES or PT
    #[arg(
        long,
        value_name = "CODE",
        default_value = "",
        hide_default_value = true
    )]
    language: String,
    /// TURKISH, GREEK, CYRILLIC, CENTRAL_EUROPEAN or NON_UNICODE
    #[arg(
        long,
        value_name = "SCRIPT",
        default_value = "",
        hide_default_value = true
    )]
    transliteration: String,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call.
pub async fn run(args: PreviewArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let response = SmsServiceClient::new(bridge.service())
        .preview_sms(bridge.request(PreviewSmsRequest {
            text: args.text,
            language_code: args.language,
            transliteration: args.transliteration,
        }))
        .await?
        .into_inner();
    let mut output = Output::new(args.connect.json);
    if output.is_json() {
        output.json(&response)?;
    } else {
        output.messages(&mut Table::new(COLUMNS), &response.previews, row)?;
    }
    Ok(output.flush()?)
}

fn row(preview: &SmsPreview) -> Vec<String> {
    vec![
        preview.message_count.to_string(),
        preview.characters_remaining.to_string(),
        preview.language_code.clone(),
        preview.transliteration.clone(),
        preview.text_preview.clone(),
    ]
}
