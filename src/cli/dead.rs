//! `smsbridge dead`: lists, shows, replays and discards dead letters: commands that could not be carried out.
//!
//! Neighbours: `args` reads the command line, `letters` presents letters, `removal` sums up the calls of a replay or discard.

mod args;
mod letters;
mod removal;

use std::time::Duration;

use tonic::{Request, Response, Status};
use tonic_types::StatusExt as _;

pub use self::args::DeadArgs;
use self::{
    args::{Action, ListArgs, WhichArgs},
    letters::{COLUMNS, row, shown},
    removal::Sum,
};
use super::{
    CliError,
    connect::{Bridge, MAX_RESPONSE_BYTES, Service},
    output::{Output, Table},
    rpc_error::RpcError,
    time::show_duration,
};
use crate::proto::v1::{
    DiscardDeadLettersRequest, DiscardDeadLettersResponse, GetDeadLetterRequest,
    ListDeadLettersRequest, ReplayDeadLettersRequest, ReplayDeadLettersResponse,
    admin_service_client::AdminServiceClient,
};

/// Letters per page: the limit of the contract.
const PAGE_SIZE: usize = 1000;
/// Calls at most while another one works on the letters.
const MAX_CALLS: u32 = 4;

type Client = AdminServiceClient<Service>;

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

    async fn replay(mut self, which: WhichArgs, allow_repeat: bool) -> Result<(), CliError> {
        let (ids, filter) = which.into_proto();
        let request = ReplayDeadLettersRequest {
            ids,
            filter,
            allow_repeat,
        };
        let replay = async |mut client: Client, asked| client.replay_dead_letters(asked).await;
        let sum = Sum::of(async || self.call(&request, replay).await).await?;
        let all = &sum.response;
        let said = |all: &ReplayDeadLettersResponse| format!("replayed {}", all.count);
        self.output.message(all, said)?;
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
        sum.finish(&mut self.output, is_refused)
    }

    async fn discard(mut self, which: WhichArgs) -> Result<(), CliError> {
        let (ids, filter) = which.into_proto();
        let request = DiscardDeadLettersRequest { ids, filter };
        let discard = async |mut client: Client, asked| client.discard_dead_letters(asked).await;
        let sum = Sum::of(async || self.call(&request, discard).await).await?;
        let said = |all: &DiscardDeadLettersResponse| format!("discarded {}", all.count);
        self.output.message(&sum.response, said)?;
        sum.finish(&mut self.output, false)
    }
}
