//! `smsbridge token`: makes the tokens that gRPC callers show.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;

use super::CliError;
use crate::config::tokens::{Tokens, hash, new_token};

/// Arguments of `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token: prints it once, and what to add to grpc.tokens_file
    New(NewArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge token new --name billing-prod --application billing
  smsbridge token new --name dashboard --application ops --all-applications \\
    --method 'smsbridge.v1.EventService/*'

The running bridge reads grpc.tokens_file again when it changes.")]
struct NewArgs {
    /// What logs call the token
    #[arg(long)]
    name: String,
    /// The application that its holder acts for
    #[arg(long)]
    application: String,
    /// Lets its holder see the rows and events of all applications
    #[arg(long)]
    all_applications: bool,
    /// What its holder may call, such as smsbridge.v1.SmsService/*; default: all but AdminService
    #[arg(long = "method", value_name = "PATTERN")]
    methods: Vec<String>,
    /// Calls a second at most; 0: no quota
    #[arg(long, default_value_t = 0, value_name = "N")]
    calls_per_second: u32,
}

/// Does what the command line asks for.
///
/// # Errors
/// [`CliError::Usage`] where the arguments would make a token that the bridge refuses.
pub fn run(args: &TokenArgs) -> Result<(), CliError> {
    match &args.command {
        TokenCommand::New(args) => new(args, &mut io::stdout().lock()),
    }
}

fn new(args: &NewArgs, out: &mut impl Write) -> Result<(), CliError> {
    let token = new_token();
    let mut entry = toml::Table::new();
    entry.insert("name".into(), args.name.as_str().into());
    entry.insert("hash".into(), hash(&token).into());
    entry.insert("application".into(), args.application.as_str().into());
    if args.all_applications {
        entry.insert("grants".into(), vec!["all-applications"].into());
    }
    if !args.methods.is_empty() {
        entry.insert("methods".into(), args.methods.clone().into());
    }
    if args.calls_per_second > 0 {
        entry.insert(
            "calls_per_second".into(),
            i64::from(args.calls_per_second).into(),
        );
    }
    let block = format!("[[token]]\n{entry}");
    Tokens::parse(&block).map_err(|error| CliError::Usage(error.to_string()))?;
    // No comment in front of the token: who pastes all of this into the file hears of it, instead of keeping a token there.
    write!(
        out,
        "The token, shown this once. Its holder calls with the header\n  authorization: Bearer {}\n\n\
         Its hash, to be added to the file of grpc.tokens_file:\n\n{block}",
        token.expose_secret()
    )?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str) -> NewArgs {
        NewArgs {
            name: name.to_owned(),
            application: "billing".to_owned(),
            all_applications: true,
            methods: vec!["smsbridge.v1.SmsService/*".to_owned()],
            calls_per_second: 7,
        }
    }

    #[test]
    fn what_it_prints_is_a_tokens_file_for_the_token() {
        let mut out = Vec::new();
        new(&args("with \"quotes\""), &mut out).unwrap();
        let printed = String::from_utf8(out).unwrap();
        let token = printed
            .lines()
            .find_map(|line| line.split_once("Bearer "))
            .unwrap()
            .1;
        assert!(
            Tokens::parse(&printed).is_err(),
            "the token itself does not get into the file"
        );
        let block = printed.split_once("\n\n[[token]]").unwrap().1;
        let tokens = Tokens::parse(&format!("[[token]]{block}")).unwrap();
        let grant = tokens.find(token).unwrap();
        assert_eq!(grant.name, "with \"quotes\"");
        assert!(grant.sees_all);
        assert_eq!(
            grant.calls_per_second.map(std::num::NonZeroU32::get),
            Some(7)
        );
        assert!(grant.methods.allow("smsbridge.v1.SmsService/SendSms"));
    }

    #[test]
    fn a_token_that_the_bridge_would_refuse_is_not_made() {
        let mut wrong = args("a");
        wrong.application = "Billing".to_owned();
        let mut out = Vec::new();
        assert!(matches!(new(&wrong, &mut out), Err(CliError::Usage(_))));
        assert!(out.is_empty());
    }
}
