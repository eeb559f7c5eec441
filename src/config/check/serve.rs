//! The checks that only `smsbridge serve` needs: the API's credentials, and the files of TLS and tokens.

use std::fs;

use crate::config::{
    Config,
    mistake::{Mistake, Origin},
    tls::TlsFiles,
    tokens::Tokens,
};

pub(in crate::config) fn serve(config: &Config, mistakes: &mut Vec<Mistake>) {
    let mentioned = |key: &str| mistakes.iter().any(|mistake| mistake.key.starts_with(key));
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
    if let Err(wrong) = TlsFiles::read(&config.grpc) {
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
