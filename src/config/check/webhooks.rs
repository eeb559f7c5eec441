//! Checks what admits and reads pushes beside the secret and the password: signatures, networks, names of parameters.
//!
//! Invariant: no message quotes a key. Neighbours: `super::http` checks secret and password, `secrets` has read the files.

use secrecy::ExposeSecret;

use super::{Checks, pair};
use crate::config::{Http, InboundParameters, SUBSCRIPTIONS};

/// Who has a push and its signature can try keys without asking the bridge.
const MIN_KEY_BYTES: usize = 16;
/// Each push is compared with all of them.
const MAX_NETWORKS: usize = 1_000;

pub(super) fn webhooks(http: &Http, checks: &mut Checks<'_>) {
    signatures(http, checks);
    networks(http, checks);
    inbound_parameters(&http.inbound_parameters, checks);
}

fn signatures(http: &Http, checks: &mut Checks<'_>) {
    let has_key = http.hmac_key.is_some() || http.hmac_key_file.is_some();
    let has_previous = http.hmac_previous_key.is_some() || http.hmac_previous_key_file.is_some();
    if has_previous && !has_key {
        checks.reject(
            &["http.hmac_previous_key", "http.hmac_key"],
            "`http.hmac_key`, which replaces it, is not set",
            "set `http.hmac_key` to the key that signs now",
        );
    } else {
        pair(
            ("http.hmac_key", has_key),
            ("http.hmac_header", http.hmac_header.is_some()),
            checks,
        );
    }
    let header = http.hmac_header.as_deref();
    if header.is_some_and(|name| http::HeaderName::from_bytes(name.as_bytes()).is_err()) {
        checks.reject(
            &["http.hmac_header"],
            "is not the name of a header",
            "give the name of the header that has the signature, such as \"X-Signature\"",
        );
    }
    let key = http.hmac_key.as_ref().map(ExposeSecret::expose_secret);
    let previous = http.hmac_previous_key.as_ref();
    let previous = previous.map(ExposeSecret::expose_secret);
    for (name, key) in [("http.hmac_key", key), ("http.hmac_previous_key", previous)] {
        if key.is_some_and(|key| key.len() < MIN_KEY_BYTES) {
            checks.reject(
                &[name],
                format!("has fewer than {MIN_KEY_BYTES} bytes and could be guessed"),
                "choose a longer one, such as the output of `openssl rand -hex 32`",
            );
        }
    }
    if key.is_some() && key == previous {
        checks.reject(
            &["http.hmac_previous_key", "http.hmac_key"],
            "is the same as `http.hmac_key`",
            "remove it, or set it to the key that `http.hmac_key` replaces",
        );
    }
    let secret = http.secret.as_ref().map(ExposeSecret::expose_secret);
    if secret == Some(SUBSCRIPTIONS) {
        checks.reject(
            &["http.secret"],
            "is the segment of the path for subscriptions, so no push with it would be read",
            "choose another one, such as the output of `openssl rand -hex 24`",
        );
    }
}

fn networks(http: &Http, checks: &mut Checks<'_>) {
    for (key, networks) in [
        ("http.allowed_networks", &http.allowed_networks),
        ("http.trusted_proxies", &http.trusted_proxies),
    ] {
        if networks.len() > MAX_NETWORKS {
            checks.reject(
                &[key],
                format!("has {} networks", networks.len()),
                format!("give at most {MAX_NETWORKS}, such as wider ones"),
            );
        }
    }
    if http.allowed_networks.is_empty() && !http.trusted_proxies.is_empty() {
        checks.reject(
            &["http.trusted_proxies", "http.allowed_networks"],
            "has no use, because `http.allowed_networks` is empty and any client may push",
            "set `http.allowed_networks`, or remove the key",
        );
    }
}

fn inbound_parameters(names: &InboundParameters, checks: &mut Checks<'_>) {
    let InboundParameters {
        sender,
        receiver,
        text,
        bin,
        datetime,
        message_id,
        data_coding,
        esm_class,
        output,
    } = names;
    let all = [
        ("http.inbound_parameters.sender", sender),
        ("http.inbound_parameters.receiver", receiver),
        ("http.inbound_parameters.text", text),
        ("http.inbound_parameters.bin", bin),
        ("http.inbound_parameters.datetime", datetime),
        ("http.inbound_parameters.message_id", message_id),
        ("http.inbound_parameters.data_coding", data_coding),
        ("http.inbound_parameters.esm_class", esm_class),
        ("http.inbound_parameters.output", output),
    ];
    for (at, (key, name)) in all.into_iter().enumerate() {
        if name.is_empty() {
            checks.reject(
                &[key],
                "is empty",
                "give the name before the `=` in the URL template, or remove the key",
            );
            continue;
        }
        // Names are compared without case when a push is read.
        let twin = all[..at]
            .iter()
            .find(|(_, other)| other.to_lowercase() == name.to_lowercase());
        if let Some((other, _)) = twin {
            checks.reject(
                &[key, other],
                format!("is the same name as that of `{other}`"),
                "give each value a name of its own",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use crate::config::{
        HmacAlgorithm, HmacEncoding, InboundOutput,
        tests::{file, load, mistake},
    };

    const KEY: &str = "hmac_key = \"0123456789abcdef\"\n";
    const HEADER: &str = "hmac_header = \"X-Signature\"\n";

    #[test]
    fn a_key_needs_a_header_and_comes_from_a_file_too() {
        let old = file("fedcba9876543210\n");
        let text = format!(
            "[http]\n{KEY}{HEADER}hmac_previous_key_file = \"{}\"\nhmac_algorithm = \"sha512\"\nhmac_encoding = \"base64\"",
            old.path().display()
        );
        let http = load(&text, &[]).unwrap().http;
        let previous = http.hmac_previous_key.as_ref().unwrap();
        assert_eq!(previous.expose_secret(), "fedcba9876543210");
        assert_eq!(
            (http.hmac_algorithm, http.hmac_encoding),
            (HmacAlgorithm::Sha512, HmacEncoding::Base64)
        );
        let shown = format!("{http:?}");
        assert!(
            !shown.contains("0123456789") && !shown.contains("fedcba"),
            "{shown}"
        );
        for (text, key) in [
            (KEY, "http.hmac_key"),
            (HEADER, "http.hmac_header"),
            (
                "hmac_previous_key = \"0123456789abcdef\"",
                "http.hmac_previous_key",
            ),
        ] {
            let alone = mistake(&format!("[http]\n{text}"), &[]);
            assert_eq!(alone.key, key, "{alone}");
            assert!(alone.problem.contains("is not set"), "{alone}");
        }
    }

    #[test]
    fn weak_keys_and_wrong_headers_are_refused_without_quoting_them() {
        for (text, key) in [
            (format!("hmac_key = \"guessed\"\n{HEADER}"), "http.hmac_key"),
            (
                format!("{KEY}{HEADER}hmac_previous_key = \"guessed\""),
                "http.hmac_previous_key",
            ),
            (
                format!("{KEY}{HEADER}hmac_previous_key = \"0123456789abcdef\""),
                "http.hmac_previous_key",
            ),
            (
                format!("{KEY}hmac_header = \"not a header\""),
                "http.hmac_header",
            ),
            (
                format!("{KEY}{HEADER}hmac_algorithm = \"md5\""),
                "http.hmac_algorithm",
            ),
            ("secret = \"subscriptions\"".to_owned(), "http.secret"),
        ] {
            let mistake = mistake(&format!("[http]\n{text}"), &[]);
            assert_eq!(mistake.key, key, "{mistake}");
            let shown = mistake.to_string();
            assert!(
                !shown.contains("guessed\"") && !shown.contains("0123456789"),
                "{shown}"
            );
        }
    }

    /// Either would leave the address open: whoever pushes elsewhere needs no signature.
    #[test]
    fn a_key_does_not_replace_the_secret() {
        let text = format!("[http]\nlisten = \"0.0.0.0:8080\"\n{KEY}{HEADER}");
        assert_eq!(mistake(&text, &[]).key, "http.listen");
    }

    #[test]
    fn proxies_have_no_use_without_networks() {
        let proxies = "[http]\ntrusted_proxies = [\"10.0.0.0/8\"]\n";
        assert_eq!(mistake(proxies, &[]).key, "http.trusted_proxies");
        load(
            &format!("{proxies}allowed_networks = [\"192.0.2.0/24\"]"),
            &[],
        )
        .unwrap();
        let many = format!("{:?}", ["10.0.0.1"; 1_001]);
        let many = mistake(&format!("[http]\nallowed_networks = {many}"), &[]);
        assert_eq!(many.key, "http.allowed_networks");
    }

    #[test]
    fn each_parameter_has_a_name_of_its_own() {
        let section = "[http]\ninbound_output = \"xml\"\n[http.inbound_parameters]\n";
        let http = load(&format!("{section}sender = \"who\"\ntext = \"what\""), &[])
            .unwrap()
            .http;
        let names = &http.inbound_parameters;
        assert_eq!(
            [&names.sender, &names.text, &names.message_id],
            ["who", "what", "messageId"]
        );
        assert_eq!(http.inbound_output, InboundOutput::Xml);
        let variable = ("SMSBRIDGE_HTTP__INBOUND_PARAMETERS__MESSAGE_ID", "id");
        let names = load("", &[variable]).unwrap().http.inbound_parameters;
        assert_eq!(names.message_id, "id");
        for (text, key) in [
            ("text = \"\"", "http.inbound_parameters.text"),
            ("text = \"Sender\"", "http.inbound_parameters.text"),
            ("sender = \"bin\"", "http.inbound_parameters.bin"),
            ("from = \"who\"", "http.inbound_parameters.from"),
        ] {
            let mistake = mistake(&format!("{section}{text}"), &[]);
            assert_eq!(mistake.key, key, "{mistake}");
        }
    }
}
