//! The arguments of `smsbridge dead`: which letters, and what to do with them.
//!
//! Invariant: a replay or discard without ids has an end: only what died before the command began. Neighbour: `dead` runs the actions.

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::{
    cli::{connect::ConnectArgs, time::parse_past},
    message::time::to_proto,
    proto::v1::{DeadLetterCause, DeadLetterFilter},
};

#[derive(Debug, Args)]
#[command(
    after_help = "A dead letter with the cause `caller` is a mistake of its publisher: it is dead again at once, unless the bridge or its \
                  configuration changed. One with the cause `given_up` may be sent after what hindered it was mended. A replay keeps the \
                  deadline of the command, and looks up what may have been sent. While a list waits for its next page, ten seconds at most, other \
                  consumers of the queue do not get its letters.

Examples:
  smsbridge dead
  smsbridge dead list --cause given_up --reason ATTEMPT_LIMIT --all --json
  smsbridge dead show 0192f0c1-6e1f-7a53-a2a5-3c5be1d1a9f4
  smsbridge dead replay --cause given_up --since 2h
  smsbridge dead discard --cause caller --before 7d"
)]
pub struct DeadArgs {
    #[command(subcommand)]
    pub(super) action: Option<Action>,
    #[command(flatten)]
    pub(super) list: ListArgs,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Maximum number of letters, oldest first
    #[arg(long, default_value_t = 50, value_parser = parse_limit)]
    pub(super) limit: usize,
    /// All letters
    #[arg(long, conflicts_with = "limit")]
    pub(super) all: bool,
}

#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only letters with this reason, such as ATTEMPT_LIMIT; may be repeated
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,
    /// Only letters with this cause
    #[arg(long)]
    cause: Option<CauseFilter>,
    /// Only letters of this application; may be repeated
    #[arg(long = "application", value_name = "NAME")]
    applications: Vec<String>,
    /// Only letters that died since this time: 1h (ago) or a time
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    since: Option<Timestamp>,
    /// Only letters that died before this time
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    before: Option<Timestamp>,
}

/// Who has to act.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum CauseFilter {
    /// The publisher: the command is invalid
    Caller,
    /// The operator: the API or the broker refused it too often
    GivenUp,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List letters, without their bodies
    List(ListArgs),
    /// Print one letter with its body
    Show {
        /// Id of the letter
        id: String,
    },
    /// Publish letters as commands again, and remove them
    Replay {
        #[command(flatten)]
        which: WhichArgs,
        /// Replay also look-ups of numbers, and what may have been sent and has no id to look it up by: it may be paid a second time
        #[arg(long)]
        allow_repeat: bool,
    },
    /// Delete letters for good
    Discard {
        #[command(flatten)]
        which: WhichArgs,
    },
}

#[derive(Debug, Args)]
pub(super) struct WhichArgs {
    /// Ids of the letters
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All letters that are dead now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

impl FilterArgs {
    fn is_empty(&self) -> bool {
        self.reasons.is_empty()
            && self.cause.is_none()
            && self.applications.is_empty()
            && self.since.is_none()
            && self.before.is_none()
    }

    pub(super) fn into_proto(self) -> Option<DeadLetterFilter> {
        if self.is_empty() {
            return None;
        }
        let cause = match self.cause {
            None => DeadLetterCause::Unspecified,
            Some(CauseFilter::Caller) => DeadLetterCause::Caller,
            Some(CauseFilter::GivenUp) => DeadLetterCause::GivenUp,
        };
        Some(DeadLetterFilter {
            reasons: self.reasons,
            cause: cause.into(),
            applications: self.applications,
            died_since: self.since.map(to_proto),
            died_before: self.before.map(to_proto),
        })
    }
}

impl WhichArgs {
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && !self.all && self.filter.is_empty()
    }

    pub(super) fn into_proto(self) -> (Vec<String>, Option<DeadLetterFilter>) {
        let mut filter = self.filter.into_proto();
        if self.ids.is_empty() {
            // The call may be repeated, and what died of a replay is not replayed again.
            let filter = filter.get_or_insert_default();
            filter
                .died_before
                .get_or_insert_with(|| to_proto(Timestamp::now()));
        }
        (self.ids, filter)
    }
}

pub(in crate::cli) fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number, at least 1".into()),
        Ok(limit) => Ok(limit),
    }
}
