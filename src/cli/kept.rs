//! What `dead` and `quarantine` share: the actions on what the bridge keeps for an operator, and how it is shown. Each of
//! the two says what its things are, and by which calls they are had ([`Kept`]).

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    CliError,
    connect::{Bridge, ConnectArgs, MAX_RESPONSE_BYTES, Service},
    output::{Output, Table, printable},
};
use crate::proto::v1::admin_service_client::AdminServiceClient;

/// How many are read to find one: the contract's limit.
const LARGEST_LIST: i32 = 1000;

/// Arguments of both.
#[derive(Debug, Args)]
pub struct KeptArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Listed at most, the oldest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The operator's service of a bridge.
pub(super) struct Admin {
    pub(super) bridge: Bridge,
    pub(super) client: AdminServiceClient<Service>,
}

/// One kind of what is kept.
pub(super) trait Kept {
    /// One of them.
    type Item: Serialize;
    /// What replaying is answered.
    type Replayed: Serialize;
    /// What discarding is answered.
    type Discarded: Serialize;
    /// The header of their table.
    const COLUMNS: &'static [&'static str];
    /// Said where there are none.
    const NONE: &'static str;

    /// Its id.
    fn id(item: &Self::Item) -> &str;
    /// Its row of the table.
    fn row(item: &Self::Item) -> Vec<String>;
    /// All of it, for people.
    fn show(item: &Self::Item) -> String;
    /// The oldest of them.
    async fn list(admin: &mut Admin, limit: i32) -> Result<Vec<Self::Item>, CliError>;
    /// Replays those with these ids, all of them where there are none; the answer and what to say of it.
    async fn replay(
        admin: &mut Admin,
        ids: Vec<String>,
    ) -> Result<(Self::Replayed, String), CliError>;
    /// Throws those with these ids away; the answer and what to say of it.
    async fn discard(
        admin: &mut Admin,
        ids: Vec<String>,
    ) -> Result<(Self::Discarded, String), CliError>;
}

/// Lists, or does what was asked for.
///
/// # Errors
/// Where the bridge can't be reached or refuses, or there is none with the id.
pub(super) async fn run<K: Kept>(args: KeptArgs) -> Result<(), CliError> {
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
                output.note(K::NONE)?;
            }
        }
        Some(Action::Show { id }) => {
            let items = K::list(&mut admin, LARGEST_LIST).await?;
            let found = items.iter().find(|item| K::id(item) == id);
            output.message(found.ok_or_else(|| not_found(&id))?, K::show)?;
        }
        Some(Action::Replay(which)) => {
            let (done, said) = K::replay(&mut admin, which.into_ids()).await?;
            output.message(&done, |_| said.clone())?;
        }
        Some(Action::Discard { ids }) => {
            let (done, said) = K::discard(&mut admin, ids).await?;
            output.message(&done, |_| said.clone())?;
        }
    }
    Ok(output.flush()?)
}

/// What to do with what is kept.
#[derive(Debug, Subcommand)]
enum Action {
    /// Show one with its body
    Show {
        /// Its id
        id: String,
    },
    /// Handle again, as if it had just come
    Replay(ReplayArgs),
    /// Throw away, for good
    Discard {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Which ones to replay.
#[derive(Debug, Args)]
struct ReplayArgs {
    /// Their ids
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

impl ReplayArgs {
    /// The ids as the contract wants them: none for all.
    fn into_ids(self) -> Vec<String> {
        self.ids
    }
}

/// One line for each field, then the body: text as it is, anything else in hex.
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

/// The error where an id is not among those that were listed.
fn not_found(id: &str) -> CliError {
    CliError::Failed(format!(
        "`{id}` is not among the oldest {LARGEST_LIST}: list them without `show`"
    ))
}
