//! The actions of `quarantine`: list, show, replay, discard; and how an item is shown, also of `dead`.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    CliError,
    connect::{Bridge, ConnectArgs, MAX_RESPONSE_BYTES, Service},
    output::{Column, Output, Table, printable},
};
use crate::proto::v1::admin_service_client::AdminServiceClient;

/// The largest `limit` that the contract allows. `show` requests so many items and searches them for the id.
const MAX_LIST: i32 = 1000;

#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Maximum number of listed items, oldest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) struct Admin {
    pub(super) bridge: Bridge,
    pub(super) client: AdminServiceClient<Service>,
}

/// Items that the bridge stores until an operator replays or discards them.
pub(super) trait Replayable {
    type Item: Serialize;
    type Replayed: Serialize;
    type Discarded: Serialize;
    /// The header of the table.
    const COLUMNS: &'static [Column];
    /// Printed if the list is empty.
    const EMPTY: &'static str;

    fn id(item: &Self::Item) -> &str;
    fn row(item: &Self::Item) -> Vec<String>;
    /// All fields and the body as text.
    fn show(item: &Self::Item) -> String;
    /// Lists the oldest items.
    async fn list(admin: &mut Admin, limit: i32) -> Result<Vec<Self::Item>, CliError>;
    /// Replays the items with these ids; all items if there are no ids.
    async fn replay(admin: &mut Admin, ids: Vec<String>) -> Result<Self::Replayed, CliError>;
    fn replayed(response: &Self::Replayed) -> i32;
    /// Discards the items with these ids.
    async fn discard(admin: &mut Admin, ids: Vec<String>) -> Result<Self::Discarded, CliError>;
    fn discarded(response: &Self::Discarded) -> i32;
}

/// Runs an action; lists the items if there is none.
///
/// # Errors
/// If the bridge cannot be reached or refuses the call, or no item has the id.
pub(super) async fn run<K: Replayable>(args: ReplayArgs) -> Result<(), CliError> {
    let bridge = args.connect.connect().await?;
    let client =
        AdminServiceClient::new(bridge.service()).max_decoding_message_size(MAX_RESPONSE_BYTES);
    let mut admin = Admin { bridge, client };
    let mut output = Output::new(args.connect.json);
    match args.action {
        None => {
            let items = K::list(&mut admin, args.limit).await?;
            output.messages(&mut Table::new(K::COLUMNS), &items, K::row)?;
            if items.is_empty() {
                output.note(K::EMPTY)?;
            }
        }
        Some(Action::Show { id }) => {
            let items = K::list(&mut admin, MAX_LIST).await?;
            let found = items.iter().find(|item| K::id(item) == id);
            output.message(found.ok_or_else(|| not_found(&id))?, K::show)?;
        }
        Some(Action::Replay { ids, all: _ }) => {
            let response = K::replay(&mut admin, ids).await?;
            output.message(&response, |response| {
                format!("replayed {}", K::replayed(response))
            })?;
        }
        Some(Action::Discard { ids }) => {
            let response = K::discard(&mut admin, ids).await?;
            output.message(&response, |response| {
                format!("discarded {}", K::discarded(response))
            })?;
        }
    }
    Ok(output.flush()?)
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print one item with its body
    Show {
        /// Id of the item
        id: String,
    },
    /// Process items again, as if they had just arrived
    Replay {
        /// Ids of the items
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<String>,
        /// Replay all items
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Delete items for good
    Discard {
        /// Ids of the items
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Formats one line for each field, then the body: as text, or in hex if it is not UTF-8.
pub(super) fn show(fields: &[(&str, String)], body: &[u8]) -> String {
    let mut shown = String::new();
    for (name, value) in fields {
        shown.push_str(&format!("{name}: {}\n", printable(value.clone())));
    }
    shown.push('\n');
    match std::str::from_utf8(body) {
        Ok(text) => {
            for line in text.lines() {
                shown.push_str(&printable(line.to_owned()));
                shown.push('\n');
            }
        }
        Err(_) => shown.push_str(&hex::encode(body)),
    }
    shown.truncate(shown.trim_end().len());
    shown
}

fn not_found(id: &str) -> CliError {
    CliError::Failed(format!(
        "`{id}` is not among the oldest {MAX_LIST} items; list them without `show`"
    ))
}
