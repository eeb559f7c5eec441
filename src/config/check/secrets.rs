//! Reads secrets from the files that `…_file` keys name, into the keys without `_file`.
//!
//! Invariants: a secret is given by its key or by its file, not by both; no message quotes the content of a file. Neighbours:
//! the other checks run later and find every secret under its key.

use std::{
    fs,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::Checks;
use crate::config::Config;

pub(super) fn secrets_from_files(config: &mut Config, checks: &mut Checks<'_>) {
    let mut resolve = |key: &str, secret: &mut Option<SecretString>, file: &Option<PathBuf>| {
        let file_key = format!("{key}_file");
        let Some(path) = file else { return };
        if secret.is_some() {
            checks.reject(
                &[&file_key, key],
                format!("`{key}` is also set"),
                "set only one of the two",
            );
            return;
        }
        match read_secret(path) {
            Ok(read) => *secret = Some(read),
            Err(problem) => checks.reject(
                &[&file_key],
                problem,
                format!("name a file that holds the value, or set `{key}`"),
            ),
        }
    };
    let Config {
        infobip,
        http,
        amqp,
        ..
    } = config;
    resolve(
        "infobip.password",
        &mut infobip.password,
        &infobip.password_file,
    );
    resolve(
        "infobip.api_key",
        &mut infobip.api_key,
        &infobip.api_key_file,
    );
    resolve("http.secret", &mut http.secret, &http.secret_file);
    resolve(
        "http.basic_password",
        &mut http.basic_password,
        &http.basic_password_file,
    );
    resolve("http.hmac_key", &mut http.hmac_key, &http.hmac_key_file);
    resolve(
        "http.hmac_previous_key",
        &mut http.hmac_previous_key,
        &http.hmac_previous_key_file,
    );
    resolve("amqp.url", &mut amqp.url, &amqp.url_file);
}

/// The content of a file without its final newline.
fn read_secret(path: &Path) -> Result<SecretString, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("can't read {}: {error}", path.display()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use crate::config::tests::{CREDENTIALS, file, load, mistake};

    #[test]
    fn secrets_come_from_files_without_their_newline() {
        let secret = file("pass word\r\n");
        let path = secret.path().display();
        let text = format!(
            "[infobip]\nusername = \"u\"\npassword_file = \"{path}\"\n[amqp]\nurl_file = \"{}\"",
            file("").path().display()
        );
        let missing = mistake(&text, &[]);
        assert_eq!(missing.key, "amqp.url_file");
        let broker = file("amqp://127.0.0.1\n");
        let text = format!(
            "[infobip]\nusername = \"u\"\npassword_file = \"{path}\"\n[amqp]\nurl_file = \"{}\"",
            broker.path().display()
        );
        let config = load(&text, &[]).unwrap();
        assert_eq!(
            config.infobip.password.unwrap().expose_secret(),
            "pass word"
        );
        assert_eq!(config.amqp.url.unwrap().expose_secret(), "amqp://127.0.0.1");
    }

    #[test]
    fn a_secret_excludes_its_file_and_the_file_must_exist() {
        let both = mistake(
            "[http]\nsecret = \"abc\"\nsecret_file = \"/nonexistent/s\"",
            &[],
        );
        assert_eq!(
            (both.key.as_str(), both.problem.as_str()),
            ("http.secret_file", "`http.secret` is also set")
        );
        let missing = mistake("[http]\nsecret_file = \"/nonexistent/s\"", &[]);
        assert!(missing.problem.contains("/nonexistent/s"), "{missing}");
        let empty = file("\n");
        let missing = mistake(
            &format!("[http]\nsecret_file = \"{}\"", empty.path().display()),
            &[],
        );
        assert!(missing.problem.ends_with("is empty"), "{missing}");
    }

    #[test]
    fn a_mistake_in_a_secrets_file_names_its_key_and_layer() {
        let secret = file("not/a/segment");
        let path = secret.path().display().to_string();
        let from_environment = mistake("", &[("SMSBRIDGE_HTTP__SECRET_FILE", &path)]);
        assert_eq!(
            (
                from_environment.key.as_str(),
                from_environment.origin.to_string().as_str()
            ),
            (
                "http.secret_file",
                "environment SMSBRIDGE_HTTP__SECRET_FILE"
            )
        );
        assert!(!from_environment.to_string().contains("not/a/segment"));
        for (section, key) in [
            ("amqp", "url_file"),
            ("http", "basic_password_file"),
            ("infobip", "password_file"),
        ] {
            let named = mistake(&format!("[{section}]\n{key} = \"{path}\""), &[]);
            assert_eq!(named.key, format!("{section}.{key}"), "{named}");
            assert!(named.origin.to_string().ends_with(".toml:2"), "{named}");
        }
        let both = mistake(
            &format!("[infobip]\napi_key_file = \"{path}\""),
            &CREDENTIALS,
        );
        assert_eq!(both.key, "infobip.api_key_file", "{both}");
    }
}
