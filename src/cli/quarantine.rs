//! `smsbridge quarantine`: lists, shows, replays and discards what the API sent and the bridge could not read.
//!
//! Neighbours: `admin` calls, `removal` sums up the calls of a replay or discard, `with_body` shows a body.

use clap::{Args, Subcommand};

use super::{
    CliError,
    admin::{Admin, Client},
    connect::ConnectArgs,
    output::{Column, Table},
    removal::Sum,
    time, with_body,
};
use crate::proto::v1::{
    DiscardQuarantinedRequest, DiscardQuarantinedResponse, GetQuarantinedRequest,
    ListQuarantinedRequest, QuarantineSource, QuarantinedBody, ReplayQuarantinedRequest,
    ReplayQuarantinedResponse,
};

/// Bodies per page: the limit of the contract.
const PAGE_SIZE: usize = 1000;

const COLUMNS: &[Column] = &[
    Column::new("TIME").left_out(4),
    Column::new("ID"),
    Column::new("ENDPOINT"),
    Column::new("SOURCE").left_out(1),
    Column::new("BYTES").left_out(2),
    Column::text("CONTENT TYPE").left_out(3),
    Column::text("DETAIL"),
];

#[derive(Debug, Args)]
#[command(
    after_help = "A replay processes a body as if the API had just sent it: after an upgrade that reads it, or after the names of the \
                  parameters of a GET were configured. What still cannot be read stays. Each body has numbers and texts: `show` prints them.

Examples:
  smsbridge quarantine
  smsbridge quarantine list --all --json
  smsbridge quarantine show 0192f0c1-6e1f-7a53-a2a5-3c5be1d1a9f4
  smsbridge quarantine replay --all
  smsbridge quarantine discard 0192f0c1-6e1f-7a53-a2a5-3c5be1d1a9f4"
)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Maximum number of bodies, oldest first
    #[arg(long, default_value_t = 50, value_parser = super::dead::parse_limit)]
    limit: usize,
    /// All bodies
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what is in quarantine, without the bodies
    List(ListArgs),
    /// Print one body
    Show {
        /// Id of the body
        id: String,
    },
    /// Process bodies again, as if the API had just sent them
    Replay(WhichArgs),
    /// Delete bodies for good
    Discard(WhichArgs),
}

#[derive(Debug, Args)]
struct WhichArgs {
    /// Ids of the bodies
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All bodies that are in quarantine now
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

/// # Errors
/// If the bridge cannot be reached or refuses the call, nothing has the id, or not all bodies could be replayed or discarded.
pub async fn run(args: QuarantineArgs) -> Result<(), CliError> {
    let action = args.action.unwrap_or(Action::List(args.list));
    let bodies = Bodies(Admin::connect(&args.connect).await?);
    match action {
        Action::List(args) => bodies.list(args).await,
        Action::Show { id } => bodies.show(id).await,
        Action::Replay(which) => bodies.replay(which).await,
        Action::Discard(which) => bodies.discard(which).await,
    }
}

struct Bodies(Admin);

impl Bodies {
    async fn list(mut self, args: ListArgs) -> Result<(), CliError> {
        let mut missing = if args.all { usize::MAX } else { args.limit };
        let mut table = Table::new(COLUMNS);
        let mut listed = 0_usize;
        let mut request = ListQuarantinedRequest::default();
        loop {
            let limit = missing.min(PAGE_SIZE);
            request.limit = i32::try_from(limit).expect("a page has at most 1000 bodies");
            let list = async |mut client: Client, asked| client.list_quarantined(asked).await;
            let page = self.0.call(&request, list).await?;
            missing -= page.bodies.len().min(missing);
            listed += page.bodies.len();
            if !page.bodies.is_empty() {
                self.0.output.messages(&mut table, &page.bodies, row)?;
                self.0.output.flush()?;
            }
            if page.next_page_token.is_empty() {
                break;
            }
            if missing == 0 {
                self.0.output.note(&format!(
                    "these are the oldest {listed} bodies; for more use --limit or --all"
                ))?;
                break;
            }
            request.page_token = page.next_page_token;
        }
        if listed == 0 {
            self.0.output.note("nothing in quarantine")?;
        }
        Ok(self.0.output.flush()?)
    }

    async fn show(mut self, id: String) -> Result<(), CliError> {
        let get = async |mut client: Client, asked| client.get_quarantined(asked).await;
        let got = self.0.call(&GetQuarantinedRequest { id }, get).await?;
        let body = got.body.unwrap_or_default();
        self.0.output.message(&body, shown)?;
        Ok(self.0.output.flush()?)
    }

    async fn replay(mut self, which: WhichArgs) -> Result<(), CliError> {
        let request = ReplayQuarantinedRequest { ids: which.ids };
        let replay = async |mut client: Client, asked| client.replay_quarantined(asked).await;
        let sum = Sum::of(async || self.0.call(&request, replay).await).await?;
        let all = &sum.response;
        let said = |all: &ReplayQuarantinedResponse| format!("replayed {}", all.count);
        self.0.output.message(all, said)?;
        for still in &all.unreadable {
            self.0
                .output
                .note(&format!("still unreadable: {}: {}", still.id, still.detail))?;
        }
        let more = usize::try_from(all.unreadable_count).unwrap_or(0);
        let more = more.saturating_sub(all.unreadable.len());
        if more > 0 {
            self.0
                .output
                .note(&format!("still unreadable: {more} more"))?;
        }
        let is_refused = all.unreadable_count > 0;
        sum.finish(&mut self.0.output, is_refused)
    }

    async fn discard(mut self, which: WhichArgs) -> Result<(), CliError> {
        let request = DiscardQuarantinedRequest {
            ids: which.ids,
            all: which.all,
        };
        let discard = async |mut client: Client, asked| client.discard_quarantined(asked).await;
        let sum = Sum::of(async || self.0.call(&request, discard).await).await?;
        let said = |all: &DiscardQuarantinedResponse| format!("discarded {}", all.count);
        self.0.output.message(&sum.response, said)?;
        sum.finish(&mut self.0.output, false)
    }
}

fn source(body: &QuarantinedBody) -> &'static str {
    match body.source() {
        QuarantineSource::Unspecified => "",
        QuarantineSource::Push => "push",
        QuarantineSource::Query => "query",
        QuarantineSource::Pull => "pull",
    }
}

fn row(body: &QuarantinedBody) -> Vec<String> {
    vec![
        time::show(body.time.as_ref()),
        body.id.clone(),
        body.endpoint.clone(),
        source(body).to_owned(),
        body.body_bytes.to_string(),
        body.content_type.clone(),
        body.detail.clone(),
    ]
}

/// All fields and the body.
fn shown(body: &QuarantinedBody) -> String {
    let part = if body.is_row {
        "a row of a body"
    } else {
        "a whole body"
    };
    let fields = [
        ("id", body.id.clone()),
        ("time", time::show(body.time.as_ref())),
        ("endpoint", body.endpoint.clone()),
        ("source", source(body).to_owned()),
        ("part", part.to_owned()),
        ("application", body.application.clone()),
        ("detail", body.detail.clone()),
        ("content type", body.content_type.clone()),
    ];
    let said: Vec<_> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    with_body::show(&said, &body.body)
}
