//! The argument `--amqp-url` of the commands that use a broker directly.
//!
//! Invariant: no error contains a part of the URL, because of the password in it.

use super::CliError;
use crate::{
    amqp::Endpoint,
    config::{BROKER_URL_REMEDY, list_of_text},
};

/// The value of `--amqp-url` that stands for the variables.
const FROM_ENVIRONMENT: &str = "env";
/// The variable of `amqp.url`.
const URL: &str = "SMSBRIDGE_AMQP__URL";
/// The variable of `amqp.other_nodes`.
const OTHER_NODES: &str = "SMSBRIDGE_AMQP__OTHER_NODES";

/// The broker that the argument names: a URL, or `env` for that of the environment, with the other nodes of its cluster.
///
/// # Errors
/// [`CliError::Usage`] if the URL is invalid, or missing in the environment.
pub(super) fn endpoint(argument: &str) -> Result<Endpoint, CliError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (name, url, other_nodes) = if argument == FROM_ENVIRONMENT {
        let url = variable(URL)
            .ok_or_else(|| CliError::Usage(format!("{URL} is not set: --amqp-url env needs it")))?;
        (URL, url, variable(OTHER_NODES).unwrap_or_default())
    } else {
        ("--amqp-url", argument.to_owned(), String::new())
    };
    Endpoint::parse(&url.into())
        .map(|endpoint| endpoint.with_other_nodes(&list_of_text(&other_nodes)))
        .map_err(|problem| CliError::Usage(format!("{name} {problem}; {BROKER_URL_REMEDY}")))
}
