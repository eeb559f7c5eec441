//! `smsbridge token`: creates bearer tokens for gRPC callers.

mod file;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;

use super::CliError;
use crate::config::tokens::{Tokens, hash, new_token};

#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Create a token: print it once, and the entry for grpc.tokens_file, or add the entry with --file
    New(NewArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge token new --name billing-prod --application billing
  smsbridge token new --name dashboard --application ops --all-applications \\
    --method 'smsbridge.v1.EventService/*'
  TOKEN=$(smsbridge token new --name crm --application crm --file tokens.toml)

A running bridge reloads grpc.tokens_file when it changes.")]
struct NewArgs {
    /// The name of the token in logs
    #[arg(long)]
    name: String,
    /// The application of the caller
    #[arg(long)]
    application: String,
    /// Let the caller see the rows and events of all applications
    #[arg(long)]
    all_applications: bool,
    /// Methods that the caller may use, such as smsbridge.v1.SmsService/*; default: all but AdminService
    #[arg(long = "method", value_name = "PATTERN")]
    methods: Vec<String>,
    /// Maximum number of calls per second; 0: no quota
    #[arg(long, default_value_t = 0, value_name = "N")]
    calls_per_second: u32,
    /// Add the entry to this tokens file (created if it is missing); stdout is then the token alone
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// # Errors
/// [`CliError::Usage`] if the bridge would refuse an entry with these arguments, or the file with this entry.
pub fn run(args: &TokenArgs) -> Result<(), CliError> {
    match &args.command {
        TokenCommand::New(args) => create(args, &mut io::stdout().lock()),
    }
}

fn create(args: &NewArgs, out: &mut impl Write) -> Result<(), CliError> {
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
    if let Some(path) = &args.file {
        let path = file::append(path, &block)?;
        // For people only: a closed stderr does no harm.
        let _ = writeln!(
            io::stderr(),
            "the entry `{}` is in {}; the token, printed only once:",
            args.name,
            path.display()
        );
        writeln!(out, "{}", token.expose_secret())?;
        return Ok(out.flush()?);
    }
    // The token is not in a TOML comment: pasting all of this into the file is then an error, and no token is stored there.
    write!(
        out,
        "The token, printed only once. Callers send it in the header\n  authorization: Bearer {}\n\n\
         Add its hash to the file of grpc.tokens_file:\n\n{block}",
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
            file: None,
        }
    }

    #[test]
    fn the_printed_entry_is_a_tokens_file_for_the_token() {
        let mut out = Vec::new();
        create(&args("with \"quotes\""), &mut out).unwrap();
        let printed = String::from_utf8(out).unwrap();
        let token = printed
            .lines()
            .find_map(|line| line.split_once("Bearer "))
            .unwrap()
            .1;
        assert!(
            Tokens::parse(&printed).is_err(),
            "the token itself must not be valid in the file"
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
    fn an_entry_that_the_bridge_would_refuse_is_not_created() {
        let mut wrong = args("a");
        wrong.application = "Billing".to_owned();
        let mut out = Vec::new();
        assert!(matches!(create(&wrong, &mut out), Err(CliError::Usage(_))));
        assert!(out.is_empty());
    }
}
