//! `smsbridge dead`: lists, shows, replays and discards dead letters: commands that could not be carried out.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use tonic::{Request, Response, Status};
use tonic_types::StatusExt as _;

use super::{
    CliError,
    connect::{Bridge, ConnectArgs, MAX_RESPONSE_BYTES, Service},
    output::{Column, Output, Table},
    replay,
    rpc_error::RpcError,
    time::{parse_past, show, show_duration},
};
use crate::{
    message::time::to_proto,
    proto::v1::{
        DeadLetter, DeadLetterCause, DeadLetterFilter, DiscardDeadLettersRequest,
        DiscardDeadLettersResponse, GetDeadLetterRequest, ListDeadLettersRequest,
        ReplayDeadLettersRequest, ReplayDeadLettersResponse,
        admin_service_client::AdminServiceClient,
    },
};

/// Letters per page: the limit of the contract.
const PAGE_SIZE: usize = 1000;
/// Calls at most while another one works on the letters.
const MAX_CALLS: u32 = 4;

type Client = AdminServiceClient<Service>;

const COLUMNS: &[Column] = &[
    Column::new("TIME").left_out(4),
    Column::new("ID"),
    Column::new("CAUSE").left_out(6),
    Column::new("APPLICATION").left_out(2),
    Column::new("ROUTING KEY").left_out(3),
    Column::new("REQUEST ID").left_out(5),
    Column::new("BYTES").left_out(1),
    Column::new("REASON"),
    Column::text("DETAIL"),
];

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
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Maximum number of letters, oldest first
    #[arg(long, default_value_t = 50, value_parser = parse_limit)]
    limit: usize,
    /// All letters
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

#[derive(Debug, Args)]
struct FilterArgs {
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
enum Action {
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
struct WhichArgs {
    /// Ids of the letters
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All letters that are dead now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

/// How many of the ids that are not found were removed by earlier calls of this command, which did not name them.
#[derive(Debug, Clone, Copy)]
struct Removed(usize);

impl Removed {
    /// Empties the list if all of them were.
    fn forget_in(not_found: &mut Vec<String>, removed_before: i32) -> Self {
        let removed = usize::try_from(removed_before).unwrap_or(0);
        if not_found.len() <= removed {
            not_found.clear();
        }
        Self(removed.min(not_found.len()))
    }
}

struct Admin {
    bridge: Bridge,
    client: Client,
    output: Output,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call, no letter has the id, or not all letters could be replayed or discarded.
pub async fn run(args: DeadArgs) -> Result<(), CliError> {
    let action = args.action.unwrap_or(Action::List(args.list));
    if let Action::Replay { which, .. } | Action::Discard { which } = &action
        && which.is_empty()
    {
        return Err(CliError::Usage(
            "which letters? Name their ids, a filter such as --cause or --reason, or --all".into(),
        ));
    }
    let bridge = args.connect.connect().await?;
    let client =
        AdminServiceClient::new(bridge.service()).max_decoding_message_size(MAX_RESPONSE_BYTES);
    let admin = Admin {
        bridge,
        client,
        output: Output::new(args.connect.json),
    };
    match action {
        Action::List(args) => admin.list(args).await,
        Action::Show { id } => admin.show(id).await,
        Action::Replay {
            which,
            allow_repeat,
        } => admin.replay(which, allow_repeat).await,
        Action::Discard { which } => admin.discard(which).await,
    }
}

impl Admin {
    /// Calls again while the bridge says that another call works on the letters.
    async fn call<M: Clone, R>(
        &self,
        message: &M,
        call: impl AsyncFn(Client, Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, CliError> {
        let mut calls = 0;
        loop {
            calls += 1;
            let request = self.bridge.request(message.clone());
            let status = match call(self.client.clone(), request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            let info = status.get_details_error_info();
            let is_busy = info.is_some_and(|info| info.reason == "DEAD_LETTERS_BUSY");
            if !is_busy || calls == MAX_CALLS {
                return Err(RpcError::from(status).into());
            }
            let wait = RpcError::from(status).retry_after.unwrap_or_default();
            self.output.note(&format!(
                "another list, replay or discard of dead letters is under way: continuing in {}",
                show_duration(wait)
            ))?;
            tokio::time::sleep(wait.max(Duration::from_millis(100))).await;
        }
    }

    async fn list(mut self, args: ListArgs) -> Result<(), CliError> {
        let mut missing = if args.all { usize::MAX } else { args.limit };
        let mut table = Table::new(COLUMNS);
        let mut shown = 0_usize;
        let mut request = ListDeadLettersRequest {
            filter: args.filter.into_proto(),
            ..Default::default()
        };
        loop {
            let limit = missing.min(PAGE_SIZE);
            request.limit = i32::try_from(limit).expect("a page has at most 1000 letters");
            let list = async |mut client: Client, asked| client.list_dead_letters(asked).await;
            let page = self.call(&request, list).await?;
            missing -= page.letters.len().min(missing);
            shown += page.letters.len();
            // Some pages of a filtered list have no letters.
            if !page.letters.is_empty() {
                self.output.messages(&mut table, &page.letters, row)?;
                self.output.flush()?;
            }
            if page.next_page_token.is_empty() {
                break;
            }
            if missing == 0 {
                self.output.note(&format!(
                    "these are the oldest {shown} letters; for more use --limit or --all"
                ))?;
                break;
            }
            request.page_token = page.next_page_token;
        }
        if shown == 0 {
            self.output.note("no dead letters")?;
        }
        Ok(self.output.flush()?)
    }

    async fn show(mut self, id: String) -> Result<(), CliError> {
        let get = async |mut client: Client, asked| client.get_dead_letter(asked).await;
        let got = self.call(&GetDeadLetterRequest { id }, get).await?;
        let letter = got.letter.unwrap_or_default();
        self.output.message(&letter, shown)?;
        Ok(self.output.flush()?)
    }

    /// A call ends before its deadline, so it is repeated until all letters were looked at.
    async fn replay(mut self, which: WhichArgs, allow_repeat: bool) -> Result<(), CliError> {
        let (ids, filter) = which.into_proto();
        let request = ReplayDeadLettersRequest {
            ids,
            filter,
            allow_repeat,
        };
        let mut all = ReplayDeadLettersResponse::default();
        let mut removed_before;
        loop {
            let replay = async |mut client: Client, asked| client.replay_dead_letters(asked).await;
            let one = self.call(&request, replay).await?;
            let goes_on = one.incomplete && one.count > 0;
            removed_before = all.count;
            all = ReplayDeadLettersResponse {
                count: all.count + one.count,
                ..one
            };
            if !goes_on {
                break;
            }
        }
        let removed = Removed::forget_in(&mut all.not_found, removed_before);
        let said = |all: &ReplayDeadLettersResponse| format!("replayed {}", all.count);
        self.output.message(&all, said)?;
        for refusal in &all.refused {
            self.output
                .note(&format!("not replayed: {}: {}", refusal.id, refusal.detail))?;
        }
        let more = usize::try_from(all.refused_count).unwrap_or(0);
        let more = more.saturating_sub(all.refused.len());
        if more > 0 {
            self.output.note(&format!("not replayed: {more} more"))?;
        }
        let is_refused = all.refused_count > 0;
        self.finish(
            &all.not_found,
            removed,
            all.incomplete,
            &all.incomplete_detail,
            is_refused,
        )
    }

    async fn discard(mut self, which: WhichArgs) -> Result<(), CliError> {
        let (ids, filter) = which.into_proto();
        let request = DiscardDeadLettersRequest { ids, filter };
        let mut all = DiscardDeadLettersResponse::default();
        let mut removed_before;
        loop {
            let discard =
                async |mut client: Client, asked| client.discard_dead_letters(asked).await;
            let one = self.call(&request, discard).await?;
            let goes_on = one.incomplete && one.count > 0;
            removed_before = all.count;
            all = DiscardDeadLettersResponse {
                count: all.count + one.count,
                ..one
            };
            if !goes_on {
                break;
            }
        }
        let removed = Removed::forget_in(&mut all.not_found, removed_before);
        let said = |all: &DiscardDeadLettersResponse| format!("discarded {}", all.count);
        self.output.message(&all, said)?;
        self.finish(
            &all.not_found,
            removed,
            all.incomplete,
            &all.incomplete_detail,
            false,
        )
    }

    fn finish(
        &mut self,
        not_found: &[String],
        removed: Removed,
        is_incomplete: bool,
        detail: &str,
        is_refused: bool,
    ) -> Result<(), CliError> {
        let Removed(removed) = removed;
        let said = match removed {
            0 => "not found",
            _ => "not in the queue",
        };
        for id in not_found {
            self.output.note(&format!("{said}: {id}"))?;
        }
        if removed > 0 {
            let ids = not_found.len();
            self.output.note(&format!(
                "{removed} of these {ids} were removed by this command: {} was not found",
                ids - removed
            ))?;
        }
        self.output.flush()?;
        if is_incomplete {
            // Each call begins at the oldest letter.
            return Err(CliError::Failed(format!(
                "not all letters were looked at: {detail}. The last call removed none: repeat the command with a longer --timeout"
            )));
        }
        if is_refused || !not_found.is_empty() {
            return Err(CliError::Failed(
                "some of the letters stay in the queue, or are not in it".into(),
            ));
        }
        Ok(())
    }
}

impl FilterArgs {
    fn is_empty(&self) -> bool {
        self.reasons.is_empty()
            && self.cause.is_none()
            && self.applications.is_empty()
            && self.since.is_none()
            && self.before.is_none()
    }

    fn into_proto(self) -> Option<DeadLetterFilter> {
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
    fn is_empty(&self) -> bool {
        self.ids.is_empty() && !self.all && self.filter.is_empty()
    }

    fn into_proto(self) -> (Vec<String>, Option<DeadLetterFilter>) {
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

fn parse_limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number, at least 1".into()),
        Ok(limit) => Ok(limit),
    }
}

fn cause(letter: &DeadLetter) -> &'static str {
    match letter.cause() {
        DeadLetterCause::Caller => "caller",
        DeadLetterCause::GivenUp => "given_up",
        DeadLetterCause::Unspecified => "",
    }
}

fn row(letter: &DeadLetter) -> Vec<String> {
    vec![
        show(letter.time.as_ref()),
        letter.id.clone(),
        cause(letter).to_owned(),
        letter.application.clone(),
        letter.routing_key.clone(),
        letter.request_id.clone(),
        letter.body_bytes.to_string(),
        letter.reason.clone(),
        letter.detail.clone(),
    ]
}

fn shown(letter: &DeadLetter) -> String {
    let fields = [
        ("id", letter.id.clone()),
        ("time", show(letter.time.as_ref())),
        ("cause", cause(letter).to_owned()),
        ("reason", letter.reason.clone()),
        ("detail", letter.detail.clone()),
        ("application", letter.application.clone()),
        ("routing key", letter.routing_key.clone()),
        ("request id", letter.request_id.clone()),
        ("message ids", letter.message_ids.join(", ")),
        ("first seen", show(letter.first_seen.as_ref())),
        ("retries", letter.retries.to_string()),
        ("refusals", letter.refusals.to_string()),
        (
            "may be sent",
            if letter.may_be_sent { "yes" } else { "no" }.to_owned(),
        ),
        ("replayed from", letter.replayed_from.clone()),
        ("command type", letter.command_type.clone()),
        ("content type", letter.content_type.clone()),
    ];
    let said: Vec<_> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    replay::show(&said, &letter.body)
}
