//! The tokens file (`grpc.tokens_file`): the tokens that may call the gRPC server, each with its application, methods and rate.
//!
//! The file contains hashes only. A token is 32 random bytes, which cannot be guessed, so a fast hash (SHA-256) suffices; a
//! slow password hash would cost CPU on every call.
//!
//! Invariant: a [`Tokens`] was checked as a whole. Neighbours: `grpc::auth` looks tokens up and reloads the file.

use std::{collections::BTreeMap, fmt, num::NonZeroU32};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::{message::id::ApplicationName, proto};

/// Prefix of every token, by which secret scanners can find leaked ones.
pub const TOKEN_PREFIX: &str = "smsb_";
/// Prefix of a hash in the file.
const HASH_PREFIX: &str = "sha256:";
/// Maximum number of tokens in a file, as each call is compared with all of them.
const MAX_TOKENS: usize = 1_000;
/// The only service that is not allowed by default.
const ADMIN_SERVICE: &str = "smsbridge.v1.AdminService";

/// SHA-256 of a token.
type TokenDigest = [u8; 32];

/// Generates a token. Only its hash is stored.
#[must_use]
pub fn new_token() -> SecretString {
    let bytes: [u8; 32] = rand::random();
    SecretString::from(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// The hash of a token, as it is written in the file.
#[must_use]
pub fn hash(token: &SecretString) -> String {
    format!(
        "{HASH_PREFIX}{}",
        hex::encode(digest(token.expose_secret()))
    )
}

fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

/// What a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Names the token in logs.
    pub name: String,
    pub application: ApplicationName,
    /// Whether rows and events of all applications are visible.
    pub sees_all: bool,
    pub methods: Methods,
    /// `None`: no limit.
    pub calls_per_second: Option<NonZeroU32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    /// All except those of `AdminService`: the default.
    AllButAdmin,
    /// Those that match one of the patterns: `*`, `package.Service/*` or `package.Service/Method`.
    Only(Vec<String>),
}

impl Methods {
    /// Whether `package.Service/Method` is allowed.
    #[must_use]
    pub fn allow(&self, method: &str) -> bool {
        match self {
            Self::AllButAdmin => service(method) != ADMIN_SERVICE,
            Self::Only(patterns) => patterns.iter().any(|pattern| matches(pattern, method)),
        }
    }
}

fn service(method: &str) -> &str {
    method
        .split_once('/')
        .map_or(method, |(service, _)| service)
}

fn matches(pattern: &str, method: &str) -> bool {
    pattern == "*" || pattern == method || pattern.strip_suffix("/*") == Some(service(method))
}

/// Whether the server has a method that the pattern allows.
fn matches_a_method(pattern: &str) -> bool {
    proto::methods()
        .iter()
        .any(|method| matches(pattern, method))
}

#[derive(Clone, Default)]
pub struct Tokens(Vec<(TokenDigest, Grant)>);

/// All mistakes of a tokens file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokensError(Vec<String>);

impl fmt::Display for TokensError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for TokensError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    hash: String,
    application: String,
    #[serde(default)]
    grants: Vec<String>,
    methods: Option<Vec<String>>,
    #[serde(default)]
    calls_per_second: u32,
}

impl Tokens {
    /// Reads the content of a tokens file.
    ///
    /// # Errors
    /// Every mistake at once, each with the token's name if it has one; of a text that is not TOML the first one, with its line.
    pub fn parse(text: &str) -> Result<Self, TokensError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(before).filter(|b| *b == b'\n').count();
            TokensError(vec![format!("line {line}: {}", error.message())])
        })?;
        let mut mistakes = Vec::new();
        if file.token.len() > MAX_TOKENS {
            mistakes.push(format!("the file has more than {MAX_TOKENS} tokens"));
        }
        let (mut names, mut digests) = (BTreeMap::new(), BTreeMap::new());
        let mut tokens = Vec::with_capacity(file.token.len());
        for (position, entry) in file.token.into_iter().enumerate() {
            let name = entry.name.clone();
            let label = if name.is_empty() {
                format!("token {}", position + 1)
            } else {
                format!("token `{name}`")
            };
            match entry.check() {
                Ok(token) => {
                    if digests.insert(token.0, ()).is_some() {
                        mistakes.push(format!("{label}: its hash is used twice"));
                    }
                    tokens.push(token);
                }
                Err(wrong) => {
                    mistakes.extend(wrong.into_iter().map(|wrong| format!("{label}: {wrong}")));
                }
            }
            if names.insert(name, ()).is_some() {
                mistakes.push(format!("{label}: its name is used twice"));
            }
        }
        if mistakes.is_empty() {
            Ok(Self(tokens))
        } else {
            Err(TokensError(mistakes))
        }
    }

    /// Finds the grant of a token. Compares with every token in constant time, so that timing does not reveal similar tokens.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<&Grant> {
        let digest = digest(token);
        let mut found = u32::MAX;
        for (position, (known, _)) in (0u32..).zip(&self.0) {
            found.conditional_assign(&position, known.ct_eq(&digest));
        }
        let position = usize::try_from(found).ok()?;
        self.0.get(position).map(|(_, grant)| grant)
    }

    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter().map(|(_, grant)| grant)
    }
}

impl Entry {
    fn check(self) -> Result<(TokenDigest, Grant), Vec<String>> {
        let mut mistakes = Vec::new();
        if !(1..=64).contains(&self.name.len()) || self.name.chars().any(char::is_control) {
            mistakes.push("`name` must be 1 to 64 characters".to_owned());
        }
        let mut digest = TokenDigest::default();
        let is_hash = self
            .hash
            .strip_prefix(HASH_PREFIX)
            .is_some_and(|hash| hex::decode_to_slice(hash, &mut digest).is_ok());
        if !is_hash {
            mistakes.push(format!(
                "`hash` must be `{HASH_PREFIX}` and 64 hexadecimal digits, as `smsbridge token new` prints it"
            ));
        }
        let application = ApplicationName::parse(&self.application);
        if let Err(error) = &application {
            mistakes.push(format!("`application`: {error}"));
        }
        let mut sees_all = false;
        for grant in &self.grants {
            match grant.as_str() {
                "all-applications" => sees_all = true,
                other => mistakes.push(format!(
                    "`grants`: `{other}` is unknown; write \"all-applications\""
                )),
            }
        }
        for pattern in self.methods.iter().flatten() {
            let is_pattern = pattern == "*"
                || pattern
                    .split_once('/')
                    .is_some_and(|(service, method)| service.contains('.') && !method.is_empty());
            let problem = if !is_pattern {
                "is not a pattern"
            } else if !matches_a_method(pattern) {
                "matches no method"
            } else {
                continue;
            };
            mistakes.push(format!(
                "`methods`: `{pattern}` {problem}; write \"smsbridge.v1.SmsService/SendSms\", \
                 \"smsbridge.v1.SmsService/*\" or \"*\""
            ));
        }
        match application {
            Ok(application) if mistakes.is_empty() => Ok((
                digest,
                Grant {
                    name: self.name,
                    application,
                    sees_all,
                    methods: self.methods.map_or(Methods::AllButAdmin, Methods::Only),
                    calls_per_second: NonZeroU32::new(self.calls_per_second),
                },
            )),
            _ => Err(mistakes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, token: &SecretString, rest: &str) -> String {
        format!(
            "[[token]]\nname = \"{name}\"\nhash = \"{}\"\napplication = \"billing\"\n{rest}\n",
            hash(token)
        )
    }

    #[test]
    fn only_the_exact_token_is_found() {
        let (a, b, stranger) = (new_token(), new_token(), new_token());
        assert_eq!(a.expose_secret().len(), TOKEN_PREFIX.len() + 43);
        let text = entry("a", &a, "")
            + &entry(
                "b",
                &b,
                "grants = [\"all-applications\"]\ncalls_per_second = 5",
            );
        let tokens = Tokens::parse(&text).unwrap();
        let find = |token: &SecretString| tokens.find(token.expose_secret()).cloned();
        assert_eq!(find(&a).unwrap().name, "a");
        assert!(!find(&a).unwrap().sees_all);
        let b = find(&b).unwrap();
        assert_eq!((b.name.as_str(), b.sees_all), ("b", true));
        assert_eq!(b.calls_per_second, NonZeroU32::new(5));
        assert_eq!(b.application.as_str(), "billing");
        assert_eq!(find(&stranger), None);
        assert_eq!(tokens.find(""), None);
        assert!(Tokens::default().find(a.expose_secret()).is_none());
        assert!(
            !text.contains(a.expose_secret()),
            "the file has hashes only"
        );
    }

    #[test]
    fn methods_are_allowed_by_pattern_and_admin_by_name_only() {
        let methods = |rest: &str| {
            let tokens = Tokens::parse(&entry("a", &new_token(), rest)).unwrap();
            tokens.grants().next().unwrap().methods.clone()
        };
        let sms = "smsbridge.v1.SmsService/SendSms";
        let admin = "smsbridge.v1.AdminService/Reconcile";
        let default = methods("");
        assert!(default.allow(sms) && !default.allow(admin));
        let all = methods("methods = [\"*\"]");
        assert!(all.allow(sms) && all.allow(admin));
        let service = methods("methods = [\"smsbridge.v1.SmsService/*\"]");
        assert!(service.allow(sms) && !service.allow(admin));
        assert!(!service.allow("smsbridge.v1.SmsServiceX/SendSms"));
        let one = methods("methods = [\"smsbridge.v1.SmsService/SendSms\"]");
        assert!(one.allow(sms) && !one.allow("smsbridge.v1.SmsService/SendSmsBulk"));
        let none = methods("methods = []");
        assert!(!none.allow(sms));
    }

    #[test]
    fn every_mistake_of_the_file_is_reported() {
        let token = new_token();
        let good = entry("a", &token, "");
        let text = format!(
            "{good}{good}[[token]]\nname = \"c\"\nhash = \"md5:00\"\napplication = \"Billing\"\ngrants = [\"root\"]\nmethods = [\"SendSms\"]\n"
        );
        let report = Tokens::parse(&text).err().unwrap().to_string();
        for part in [
            "token `a`: its hash is used twice",
            "token `a`: its name is used twice",
            "token `c`: `hash`",
            "token `c`: `application`",
            "token `c`: `grants`: `root`",
            "token `c`: `methods`: `SendSms`",
        ] {
            assert!(report.contains(part), "{part} in {report}");
        }
        let reserved = entry("d", &token, "").replace("billing", "foreign");
        let report = Tokens::parse(&reserved).err().unwrap().to_string();
        assert!(
            report.contains("`application`: must not be `foreign`"),
            "{report}"
        );
        let unknown = Tokens::parse("[[token]]\nname = \"a\"\nmethod = []\n");
        let report = unknown.err().unwrap().to_string();
        assert!(
            report.starts_with("line 3: unknown field `method`"),
            "{report}"
        );
    }
}
