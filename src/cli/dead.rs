//! `smsbridge dead`: lists, shows, replays and discards dead letters: commands that could not be carried out.
//!
//! Neighbours: `args` reads the command line, `letters` presents letters; `cli::admin` calls, `cli::removal` sums up the calls of a replay
//! or discard.

mod args;
mod letters;

pub use self::args::DeadArgs;
pub(super) use self::args::parse_limit;
use self::{
    args::{Action, ListArgs, WhichArgs},
    letters::{COLUMNS, row, shown},
};
use super::{
    CliError,
    admin::{Admin, Client},
    output::Table,
    removal::Sum,
};
use crate::proto::v1::{
    DiscardDeadLettersRequest, DiscardDeadLettersResponse, GetDeadLetterRequest,
    ListDeadLettersRequest, ReplayDeadLettersRequest, ReplayDeadLettersResponse,
};

/// Letters per page: the limit of the contract.
const PAGE_SIZE: usize = 1000;
struct Letters(Admin);

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
    let letters = Letters(Admin::connect(&args.connect).await?);
    match action {
        Action::List(args) => letters.list(args).await,
        Action::Show { id } => letters.show(id).await,
        Action::Replay {
            which,
            allow_repeat,
        } => letters.replay(which, allow_repeat).await,
        Action::Discard { which } => letters.discard(which).await,
    }
}

impl Letters {
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
            let page = self.0.call(&request, list).await?;
            missing -= page.letters.len().min(missing);
            shown += page.letters.len();
            // Some pages of a filtered list have no letters.
            if !page.letters.is_empty() {
                self.0.output.messages(&mut table, &page.letters, row)?;
                self.0.output.flush()?;
            }
            if page.next_page_token.is_empty() {
                break;
            }
            if missing == 0 {
                self.0.output.note(&format!(
                    "these are the oldest {shown} letters; for more use --limit or --all"
                ))?;
                break;
            }
            request.page_token = page.next_page_token;
        }
        if shown == 0 {
            self.0.output.note("no dead letters")?;
        }
        Ok(self.0.output.flush()?)
    }

    async fn show(mut self, id: String) -> Result<(), CliError> {
        let get = async |mut client: Client, asked| client.get_dead_letter(asked).await;
        let got = self.0.call(&GetDeadLetterRequest { id }, get).await?;
        let letter = got.letter.unwrap_or_default();
        self.0.output.message(&letter, shown)?;
        Ok(self.0.output.flush()?)
    }

    async fn replay(mut self, which: WhichArgs, allow_repeat: bool) -> Result<(), CliError> {
        let (ids, filter) = which.into_proto();
        let request = ReplayDeadLettersRequest {
            ids,
            filter,
            allow_repeat,
        };
        let replay = async |mut client: Client, asked| client.replay_dead_letters(asked).await;
        let sum = Sum::of(async || self.0.call(&request, replay).await).await?;
        let all = &sum.response;
        let said = |all: &ReplayDeadLettersResponse| format!("replayed {}", all.count);
        self.0.output.message(all, said)?;
        for refusal in &all.refused {
            self.0
                .output
                .note(&format!("not replayed: {}: {}", refusal.id, refusal.detail))?;
        }
        let more = usize::try_from(all.refused_count).unwrap_or(0);
        let more = more.saturating_sub(all.refused.len());
        if more > 0 {
            self.0.output.note(&format!("not replayed: {more} more"))?;
        }
        let is_refused = all.refused_count > 0;
        sum.finish(&mut self.0.output, is_refused)
    }

    async fn discard(mut self, which: WhichArgs) -> Result<(), CliError> {
        let (ids, filter) = which.into_proto();
        let request = DiscardDeadLettersRequest { ids, filter };
        let discard = async |mut client: Client, asked| client.discard_dead_letters(asked).await;
        let sum = Sum::of(async || self.0.call(&request, discard).await).await?;
        let said = |all: &DiscardDeadLettersResponse| format!("discarded {}", all.count);
        self.0.output.message(&sum.response, said)?;
        sum.finish(&mut self.0.output, false)
    }
}
