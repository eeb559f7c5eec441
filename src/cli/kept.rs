//! What `dead` and `quarantine` share: the actions on what the bridge keeps for an operator, and how a body is shown.

use clap::{Args, Subcommand};

use super::{CliError, output::printable};

/// How many are read to find one: the contract's limit.
pub const LARGEST_LIST: i32 = 1000;

/// What to do with what is kept.
#[derive(Debug, Subcommand)]
pub enum Action {
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
pub struct ReplayArgs {
    /// Their ids
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

impl ReplayArgs {
    /// The ids as the contract wants them: none for all.
    #[must_use]
    pub fn into_ids(self) -> Vec<String> {
        self.ids
    }
}

/// One line for each field, then the body: text as it is, anything else in hex.
#[must_use]
pub fn show(fields: &[(&str, String)], body: &[u8]) -> String {
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
#[must_use]
pub fn not_found(id: &str) -> CliError {
    CliError::Failed(format!(
        "`{id}` is not among the oldest {LARGEST_LIST}: list them without `show`"
    ))
}
