//! Authentication and authorization: bearer tokens, client certificates, quotas. Only this module makes a [`Caller`].
//!
//! - A token (`authorization: Bearer smsb_…`, [`crate::config::tokens`]) names an application, the methods that may be called,
//!   and a rate. A token takes precedence over a certificate.
//! - With mutual TLS, the common name of the client certificate is the application. `AdminService` needs a token.
//! - If neither is configured (loopback, or `allow_insecure`), every call is allowed: as the application `default`, which sees
//!   all applications, or as the application in the metadata `x-smsbridge-application`, which sees its own rows only. This is how
//!   the rules for several applications can be tried on a laptop.
//!
//! Health needs no credentials, because probes have none. Reflection accepts any valid credentials.
//!
//! Invariants: a request that passes [`Authenticated`] has a [`Caller`] in its extensions, except for health; no token is
//! logged. Neighbours: `tokens_file` reloads tokens, `quota` counts calls, `middleware` calls it for each request.

mod authenticated;
pub mod caller;
pub mod quota;
mod tokens_file;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, header::AUTHORIZATION};

pub(in crate::grpc) use self::authenticated::{Authenticated, Certificate};
pub use self::tokens_file::TokensFileError;
use self::{
    caller::Caller,
    quota::{Limit, Quotas},
    tokens_file::TokensFile,
};
use crate::{
    config::{
        self,
        tokens::{Grant, Methods},
    },
    message::applications::{Applications, NoApplication},
};

/// The metadata key by which a caller names its application where no authentication is configured.
pub const APPLICATION_METADATA: &str = "x-smsbridge-application";
const HEALTH: &str = "grpc.health.v1.Health/";
const REFLECTION: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection/",
    "grpc.reflection.v1alpha.ServerReflection/",
];

/// Why a call is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The call has no credentials.
    #[error("no credentials: call with {how}")]
    CredentialsMissing {
        /// The accepted credentials.
        how: &'static str,
    },
    /// The token is unknown.
    #[error(
        "the token is not valid: `smsbridge token new` makes one, and its hash belongs in the file that grpc.tokens_file names"
    )]
    TokenInvalid,
    /// The common name of the certificate names no application.
    #[error("the certificate's common name is not an application: it {0}")]
    CertificateUnusable(#[source] NoApplication),
    /// The metadata names no application.
    #[error("{APPLICATION_METADATA}: {0}")]
    ApplicationInvalid(#[source] NoApplication),
    /// The credentials do not allow the method.
    #[error("`{name}` may not call {method}: add it to `methods` of its token")]
    MethodNotAllowed {
        /// The name of the token, or the certificate's common name.
        name: String,
        /// As `package.Service/Method`.
        method: String,
    },
    /// The quota of the token or the application is used up.
    #[error("the quota of {whose} is used up: calls_per_second is {calls_per_second}")]
    QuotaExceeded {
        /// The owner of the quota.
        whose: String,
        calls_per_second: NonZeroU32,
        /// The time until the next call is allowed.
        retry_after: Duration,
    },
}

/// Decides for each call whether it is allowed.
pub struct Authenticator {
    tokens: Option<Arc<TokensFile>>,
    takes_certificates: bool,
    applications: Applications,
    limits: HashMap<String, Arc<Limit>>,
}

impl Authenticator {
    /// Reads the tokens file, if one is configured. `applications` learns those of the tokens, again when the file changes.
    ///
    /// # Errors
    /// [`TokensFileError`] names the file and the key.
    pub fn new(
        grpc: &config::Grpc,
        configured: &BTreeMap<String, config::Application>,
        applications: Applications,
    ) -> Result<Self, TokensFileError> {
        let tokens = match &grpc.tokens_file {
            Some(path) => Some(Arc::new(TokensFile::read(path, applications.clone())?)),
            None => None,
        };
        let limits = configured.iter().filter_map(|(name, application)| {
            let calls_per_second = NonZeroU32::new(application.calls_per_second)?;
            Some((name.clone(), Limit::new(calls_per_second)))
        });
        Ok(Self {
            tokens,
            takes_certificates: grpc.tls_client_ca_file.is_some(),
            applications,
            limits: limits.collect(),
        })
    }

    /// The tokens file, if one is configured.
    pub(in crate::grpc) fn tokens_file(&self) -> Option<&Arc<TokensFile>> {
        self.tokens.as_ref()
    }

    /// The caller of `method` (`package.Service/Method`). `None` for methods that need no credentials.
    ///
    /// # Errors
    /// [`Denied`].
    pub(super) fn admit(
        &self,
        method: &str,
        headers: &HeaderMap,
        certificate: Option<&Certificate>,
    ) -> Result<Option<Caller>, Denied> {
        if method.starts_with(HEALTH) {
            return Ok(None);
        }
        let is_reflection = REFLECTION.iter().any(|service| method.starts_with(service));
        let mut caller = match (&self.tokens, bearer_token(headers), certificate) {
            (Some(file), Some(token), _) => {
                let known = file.known();
                let grant = known.tokens.find(token).ok_or(Denied::TokenInvalid)?;
                check_method(&grant.methods, &grant.name, method, is_reflection)?;
                let mut caller = caller_of(grant);
                if let Some(limit) = known.limits.get(&grant.name) {
                    count(&mut caller, limit, || format!("the token `{}`", grant.name))?;
                }
                caller
            }
            (_, _, Some(Certificate { common_name })) => {
                let application = self.applications.named(common_name);
                let application = application.map_err(Denied::CertificateUnusable)?;
                check_method(&Methods::AllButAdmin, common_name, method, is_reflection)?;
                Caller {
                    application,
                    sees_all: false,
                    quotas: Quotas::default(),
                }
            }
            (Some(_), None, None) if self.takes_certificates => {
                return Err(Denied::CredentialsMissing {
                    how: "the metadata `authorization: Bearer <token>`, or a client certificate",
                });
            }
            (Some(_), None, None) => {
                return Err(Denied::CredentialsMissing {
                    how: "the metadata `authorization: Bearer <token>`",
                });
            }
            (None, _, None) if self.takes_certificates => {
                return Err(Denied::CredentialsMissing {
                    how: "a client certificate",
                });
            }
            (None, _, None) => self.anonymous(headers)?,
        };
        if let Some(limit) = self.limits.get(caller.application.as_str()) {
            let application = caller.application.clone();
            count(&mut caller, limit, || {
                format!("the application `{application}`")
            })?;
        }
        Ok(Some(caller))
    }

    /// The caller if no authentication is configured.
    fn anonymous(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let Some(name) = headers.get(APPLICATION_METADATA) else {
            return Ok(Caller::anonymous());
        };
        let application = self.applications.named(name.to_str().unwrap_or_default());
        Ok(Caller {
            application: application.map_err(Denied::ApplicationInvalid)?,
            sees_all: false,
            ..Caller::anonymous()
        })
    }
}

/// Counts a call against a limit. The caller keeps the limit, so that messages on its streams count as well.
fn count(
    caller: &mut Caller,
    limit: &Arc<Limit>,
    whose: impl FnOnce() -> String,
) -> Result<(), Denied> {
    caller.quotas.add(limit);
    limit.take().map_err(|retry_after| Denied::QuotaExceeded {
        whose: whose(),
        calls_per_second: limit.calls_per_second,
        retry_after,
    })
}

fn check_method(
    methods: &Methods,
    name: &str,
    method: &str,
    is_reflection: bool,
) -> Result<(), Denied> {
    if is_reflection || methods.allow(method) {
        Ok(())
    } else {
        Err(Denied::MethodNotAllowed {
            name: name.to_owned(),
            method: method.to_owned(),
        })
    }
}

fn caller_of(grant: &Grant) -> Caller {
    Caller {
        application: grant.application.clone(),
        sees_all: grant.sees_all,
        quotas: Quotas::default(),
    }
}

/// The token in `authorization`. The whole value if the scheme is not Bearer: it matches no token.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().unwrap_or_default();
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
        _ => Some(value),
    }
}
