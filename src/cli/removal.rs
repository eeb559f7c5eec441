//! What the responses of a replay and of a discard have in common.
//!
//! A call ends before its deadline and then did only a part, so the command repeats it. Invariant: what an earlier call removed is not
//! reported as not found. Neighbours: `dead` and `quarantine` repeat the calls and print the sums.

use serde::Serialize;

use super::{CliError, output::Output};
use crate::proto::v1::{
    DiscardDeadLettersResponse, DiscardQuarantinedResponse, ReplayDeadLettersResponse,
    ReplayQuarantinedResponse,
};

/// A response to a call that removes items.
pub(super) trait Removal: Serialize {
    /// What they are.
    const ITEMS: &'static str;
    /// Where they are.
    const PLACE: &'static str;
    fn count(&mut self) -> &mut i32;
    fn not_found(&mut self) -> &mut Vec<String>;
    /// Why not all letters were looked at.
    fn incomplete(&self) -> Option<&str>;
}

macro_rules! removals {
    ($($response:ident: $items:literal in $place:literal;)*) => {
        $(impl Removal for $response {
            const ITEMS: &'static str = $items;
            const PLACE: &'static str = $place;

            fn count(&mut self) -> &mut i32 {
                &mut self.count
            }

            fn not_found(&mut self) -> &mut Vec<String> {
                &mut self.not_found
            }

            fn incomplete(&self) -> Option<&str> {
                self.incomplete.then_some(&*self.incomplete_detail)
            }
        })*
    };
}

removals! {
    ReplayDeadLettersResponse: "letters" in "the queue";
    DiscardDeadLettersResponse: "letters" in "the queue";
    ReplayQuarantinedResponse: "bodies" in "quarantine";
    DiscardQuarantinedResponse: "bodies" in "quarantine";
}

/// The sum of all calls of one command.
#[derive(Debug)]
pub(super) struct Sum<R> {
    /// The last response, with the count of all.
    pub(super) response: R,
    /// How many of the ids that are not found were removed by earlier calls of this command, which did not name them.
    removed: usize,
}

impl<R: Removal> Sum<R> {
    /// Repeats a call while it did a part.
    pub(super) async fn of(call: impl AsyncFn() -> Result<R, CliError>) -> Result<Self, CliError> {
        let mut removed_before = 0;
        loop {
            let mut response = call().await?;
            let count = *response.count();
            if response.incomplete().is_some() && count > 0 {
                removed_before += count;
                continue;
            }
            *response.count() += removed_before;
            return Ok(Self {
                removed: forget_removed(response.not_found(), removed_before),
                response,
            });
        }
    }

    /// Prints what was not found.
    ///
    /// # Errors
    /// If some were not looked at, not found, or (`is_refused`) not replayed.
    pub(super) fn finish(mut self, output: &mut Output, is_refused: bool) -> Result<(), CliError> {
        let removed = self.removed;
        let said = match removed {
            0 => "not found".to_owned(),
            _ => format!("not in {}", R::PLACE),
        };
        let not_found = std::mem::take(self.response.not_found());
        for id in &not_found {
            output.note(&format!("{said}: {id}"))?;
        }
        if removed > 0 {
            let ids = not_found.len();
            output.note(&format!(
                "{removed} of these {ids} were removed by this command: {} was not found",
                ids - removed
            ))?;
        }
        output.flush()?;
        if let Some(detail) = self.response.incomplete() {
            // Each call begins at the oldest one.
            return Err(CliError::Failed(format!(
                "not all {} were looked at: {detail}. The last call removed none: repeat the command with a longer --timeout",
                R::ITEMS
            )));
        }
        if is_refused || !not_found.is_empty() {
            return Err(CliError::Failed(format!(
                "some of the {} stay in {}, or are not in it",
                R::ITEMS,
                R::PLACE
            )));
        }
        Ok(())
    }
}

/// Empties the list if all of them were removed before. Returns how many of it were.
fn forget_removed(not_found: &mut Vec<String>, removed_before: i32) -> usize {
    let removed = usize::try_from(removed_before).unwrap_or(0);
    if not_found.len() <= removed {
        not_found.clear();
    }
    removed.min(not_found.len())
}
