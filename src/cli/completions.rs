//! `smsbridge completions`: prints the completions of a shell.

use std::io::{self, Write as _};

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, CliError};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  smsbridge completions bash > ~/.local/share/bash-completion/completions/smsbridge
  smsbridge completions zsh > ~/.zfunc/_smsbridge
  smsbridge completions fish > ~/.config/fish/completions/smsbridge.fish")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// # Errors
/// If stdout cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<(), CliError> {
    // clap_complete also completes hidden commands: those that are not built.
    let all = Cli::command();
    let built = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let mut built = Command::new("smsbridge")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .subcommands(built.cloned());
    // clap_complete panics where it cannot write, such as to a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut built, "smsbridge", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    Ok(out.flush()?)
}
