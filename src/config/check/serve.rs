//! The checks that only `smsbridge serve` needs: the API's credentials, the files of TLS and tokens, the folder of
//! the embedded event log.

use std::fs;

use super::data_dir::try_folder;
use crate::config::{
    Config, Engine,
    mistake::{Mistake, Origin},
    tls::{BrokerTlsPaths, TlsFiles},
    tokens::Tokens,
};

pub(in crate::config) fn serve(config: &Config, mistakes: &mut Vec<Mistake>) {
    let mentioned = |key: &str| mistakes.iter().any(|mistake| mistake.key.starts_with(key));
    // A mistake in `amqp.url` hides whether `auto` is the embedded engine.
    let is_engine_uncertain =
        mentioned("events.engine") || config.events.engine == Engine::Auto && mentioned("amqp.url");
    let needs_folder = config.engine() == Engine::Embedded
        && !is_engine_uncertain
        && !mentioned("events.data_dir");
    let api = &config.infobip;
    let has_credentials = api.username.is_some() || api.password.is_some() || api.api_key.is_some();
    if !has_credentials && !mentioned("infobip.") {
        mistakes.push(Mistake {
            key: "infobip.username".to_owned(),
            origin: Origin::Default,
            problem: "credentials for the API are missing".to_owned(),
            remedy: "set `infobip.username` and `infobip.password` (or `infobip.password_file`), or `infobip.api_key` \
                     (or `infobip.api_key_file`); for the simulator, those that it was started with"
                .to_owned(),
        });
    }
    if needs_folder && let Err(error) = try_folder(&config.events.data_dir) {
        mistakes.push(Mistake {
            key: "events.data_dir".to_owned(),
            origin: Origin::Default,
            problem: format!(
                "can't create or use {}: {error}",
                config.events.data_dir.display()
            ),
            remedy: "name a folder in which this process may create files".to_owned(),
        });
    }
    if let Err(wrong) = TlsFiles::read(&config.grpc) {
        mistakes.extend(wrong);
    }
    if let Err(wrong) = BrokerTlsPaths::new(&config.amqp).read() {
        mistakes.extend(wrong);
    }
    if let Some(path) = &config.grpc.tokens_file {
        let (problem, remedy) = match fs::read_to_string(path).map(|text| Tokens::parse(&text)) {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => (
                format!("{}: {error}", path.display()),
                "correct the file; `smsbridge token new` prints a valid entry",
            ),
            Err(error) => (
                format!("can't read {}: {error}", path.display()),
                "name a file that this process may read",
            ),
        };
        mistakes.push(Mistake {
            key: "grpc.tokens_file".to_owned(),
            origin: Origin::Default,
            problem,
            remedy: remedy.to_owned(),
        });
    }
}
