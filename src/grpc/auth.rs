//! Who calls, and whether it may: bearer tokens, clients' certificates, quotas. The only way to a [`Caller`].
//!
//! - A token (`authorization: Bearer smsb_…`, [`crate::config::tokens`]) says its application, what its holder may call and
//!   how often. It wins over a certificate.
//! - With mutual TLS the common name of the client's certificate is its application; `AdminService` needs a token.
//! - Where neither is configured (loopback, or `allow_insecure`) everybody may do everything: as the application `default`
//!   that sees all, or, with the metadata `x-smsbridge-application`, as that application, which sees its own only. So the
//!   rules of several applications can be tried on a laptop.
//!
//! Health asks for no credentials, as probes have none. Reflection takes any valid ones.
//!
//! Invariants: a request that gets past [`Authenticated`] has a [`Caller`] in its extensions, health aside; a tokens file that
//! can't be read keeps the tokens of the last good one; no token is ever logged.

pub mod caller;
pub mod quota;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, header::AUTHORIZATION};
use parking_lot::RwLock;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use self::{
    caller::Caller,
    quota::{Limit, Quotas},
};
use super::{
    failure::Failure,
    middleware::router::{Answering, Services},
};
use crate::{
    config::{
        self,
        tokens::{Grant, Methods, Tokens, TokensError},
    },
    message::id::{ApplicationName, IdError},
    proto,
};

/// The metadata key by which a caller names its application where no authentication is configured.
pub const APPLICATION_METADATA: &str = "x-smsbridge-application";
/// How often the tokens file is looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
const HEALTH: &str = "grpc.health.v1.Health/";
const REFLECTION: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection/",
    "grpc.reflection.v1alpha.ServerReflection/",
];

/// Why a call was not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It brought no credentials.
    #[error("no credentials: call with {how}")]
    CredentialsMissing {
        /// What is accepted.
        how: &'static str,
    },
    /// Its token is not one of ours.
    #[error(
        "the token is not valid: `smsbridge token new` makes one, and its hash belongs into the file of grpc.tokens_file"
    )]
    TokenInvalid,
    /// Its certificate names no application.
    #[error("the certificate's common name is not an application name: it {0}")]
    CertificateUnusable(#[source] IdError),
    /// The metadata names no application.
    #[error("{APPLICATION_METADATA}: {0}")]
    ApplicationInvalid(#[source] IdError),
    /// It may not call this.
    #[error("`{name}` may not call {method}: add it to `methods` of its token")]
    MethodNotAllowed {
        /// The credential's name.
        name: String,
        /// What was called.
        method: String,
    },
    /// It calls too often.
    #[error("more than {calls_per_second} calls a second: the quota of {whose}")]
    QuotaExceeded {
        /// Whose quota.
        whose: String,
        /// The quota.
        calls_per_second: NonZeroU32,
        /// When a call is let through again.
        retry_after: Duration,
    },
}

/// Why the tokens file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensFileError {
    /// It can't be read.
    #[error("can't read {path} (grpc.tokens_file): {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is wrong.
    #[error("{path} (grpc.tokens_file) is wrong: {source}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// All mistakes.
        source: TokensError,
    },
    /// A token's methods match nothing.
    #[error(
        "{path} (grpc.tokens_file): token `{name}`: no method is called `{pattern}`: write such as \
         \"smsbridge.v1.SmsService/SendSms\" or \"smsbridge.v1.SmsService/*\""
    )]
    NoSuchMethod {
        /// Which file.
        path: PathBuf,
        /// The token's name.
        name: String,
        /// What matches nothing.
        pattern: String,
    },
}

/// Lets calls through or denies them.
pub struct Authenticator {
    tokens: Option<TokensFile>,
    takes_certificates: bool,
    applications: HashMap<String, Arc<Limit>>,
}

struct TokensFile {
    path: PathBuf,
    known: RwLock<Arc<Known>>,
}

/// The content of a tokens file, with what is left of each token's quota by its name.
struct Known {
    tokens: Tokens,
    limits: HashMap<String, Arc<Limit>>,
    version: Option<Version>,
}

/// What changes with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    modified: SystemTime,
    bytes: u64,
}

fn version(path: &Path) -> Option<Version> {
    let metadata = fs::metadata(path).ok()?;
    Some(Version {
        modified: metadata.modified().ok()?,
        bytes: metadata.len(),
    })
}

impl Known {
    fn read(path: &Path) -> Result<Self, TokensFileError> {
        // Before the content: what is written meanwhile is noticed as a newer version.
        let version = version(path);
        let text = fs::read_to_string(path).map_err(|source| TokensFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        let tokens = Tokens::parse(&text).map_err(|source| TokensFileError::Wrong {
            path: path.to_owned(),
            source,
        })?;
        for grant in tokens.grants() {
            let Methods::Only(patterns) = &grant.methods else {
                continue;
            };
            for pattern in patterns {
                let alone = Methods::Only(vec![pattern.clone()]);
                if !proto::methods().iter().any(|method| alone.allow(method)) {
                    return Err(TokensFileError::NoSuchMethod {
                        path: path.to_owned(),
                        name: grant.name.clone(),
                        pattern: pattern.clone(),
                    });
                }
            }
        }
        let limits = tokens
            .grants()
            .filter_map(|grant| Some((grant.name.clone(), Limit::new(grant.calls_per_second?))));
        Ok(Self {
            limits: limits.collect(),
            tokens,
            version,
        })
    }
}

impl Authenticator {
    /// Reads the tokens file, if one is configured.
    ///
    /// # Errors
    /// [`TokensFileError`] names the file and the key.
    pub fn new(
        grpc: &config::Grpc,
        applications: &BTreeMap<String, config::Application>,
    ) -> Result<Self, TokensFileError> {
        let tokens = match &grpc.tokens_file {
            Some(path) => Some(TokensFile {
                known: RwLock::new(Arc::new(Known::read(path)?)),
                path: path.clone(),
            }),
            None => None,
        };
        let limits = applications.iter().filter_map(|(name, application)| {
            let calls_per_second = NonZeroU32::new(application.calls_per_second)?;
            Some((name.clone(), Limit::new(calls_per_second)))
        });
        Ok(Self {
            tokens,
            takes_certificates: grpc.tls_client_ca_file.is_some(),
            applications: limits.collect(),
        })
    }

    /// Reads the tokens file again whenever it changes, until `stop`. A new one that is wrong is logged once, and the
    /// tokens of the last good one stay.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let Some(file) = &self.tokens else {
            return;
        };
        let mut seen = file.known().version;
        while stop
            .run_until_cancelled(tokio::time::sleep(RELOAD_INTERVAL))
            .await
            .is_some()
        {
            let path = file.path.clone();
            let read = tokio::task::spawn_blocking(move || {
                let now = version(&path);
                (now, (now != seen).then(|| Known::read(&path)))
            });
            let Ok((now, read)) = read.await else {
                continue;
            };
            seen = now;
            match read {
                None => {}
                Some(Ok(known)) => {
                    tracing::info!(
                        tokens = known.tokens.grants().count(),
                        "the tokens file changed and was read again"
                    );
                    *file.known.write() = Arc::new(known);
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "the tokens file changed and can't be used: the earlier tokens stay valid");
                }
            }
        }
    }

    /// Who calls `method` (`package.Service/Method`). `None`: nobody is asked for.
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
                let application =
                    ApplicationName::parse(common_name).map_err(Denied::CertificateUnusable)?;
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
            (None, _, None) => anonymous(headers)?,
        };
        if let Some(limit) = self.applications.get(caller.application.as_str()) {
            let application = caller.application.clone();
            count(&mut caller, limit, || {
                format!("the application `{application}`")
            })?;
        }
        Ok(Some(caller))
    }
}

impl TokensFile {
    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read())
    }
}

/// Counts a call against a limit, which messages on its stream will count against too.
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

/// A caller where no authentication is configured.
fn anonymous(headers: &HeaderMap) -> Result<Caller, Denied> {
    match headers.get(APPLICATION_METADATA) {
        None => Ok(Caller::anonymous()),
        Some(name) => Ok(Caller {
            application: ApplicationName::parse(name.to_str().unwrap_or_default())
                .map_err(Denied::ApplicationInvalid)?,
            sees_all: false,
            ..Caller::anonymous()
        }),
    }
}

/// What `authorization` says, where it says anything: of another scheme than Bearer all of it, which is no token.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().unwrap_or_default();
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
        _ => Some(value),
    }
}

/// What the other side of a connection has shown of itself, and TLS has verified.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    /// Empty where it has none.
    common_name: Arc<str>,
}

impl Certificate {
    /// The client's; `None` where it has shown none.
    pub(super) fn of<I>(stream: &TlsStream<I>) -> Option<Self> {
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates()?.first()?;
        let (_, certificate) = X509Certificate::from_der(shown).ok()?;
        let common_name = certificate.subject().iter_common_name().next();
        let common_name = common_name.and_then(|name| name.as_str().ok());
        Some(Self {
            common_name: common_name.unwrap_or_default().into(),
        })
    }
}

/// Services behind an [`Authenticator`]. Cheap to clone.
#[derive(Clone)]
pub(super) struct Authenticated {
    services: Services,
    authenticator: Arc<Authenticator>,
    certificate: Option<Certificate>,
}

impl Authenticated {
    /// For connections that show no certificate.
    pub(super) fn around(services: Services, authenticator: Arc<Authenticator>) -> Self {
        Self {
            services,
            authenticator,
            certificate: None,
        }
    }

    /// For a connection whose other side has shown this certificate.
    pub(super) fn with_certificate(self, certificate: Option<Certificate>) -> Self {
        Self {
            certificate,
            ..self
        }
    }

    /// Answers a call, by the services if they may.
    pub(super) fn call(&self, mut request: http::Request<Body>) -> Answering {
        let path = request.uri().path();
        let method = path.strip_prefix('/').unwrap_or(path);
        let certificate = self.certificate.as_ref();
        match self
            .authenticator
            .admit(method, request.headers(), certificate)
        {
            Ok(caller) => {
                if let Some(caller) = caller {
                    request.extensions_mut().insert(caller);
                }
                self.services.call(request)
            }
            Err(denied) => {
                let status = Status::from(Failure::Denied(denied));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}
