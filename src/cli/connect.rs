//! Connects the client commands to a bridge: address, TLS, credentials, deadlines.

use std::{fmt, fs, path::PathBuf, time::Duration};

use clap::Args;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    CliError,
    time::{parse_duration, show_duration},
};

#[derive(Args)]
pub struct ConnectArgs {
    /// The bridge's gRPC address; without http:// or https:// (TLS) it is http
    #[arg(
        long,
        value_name = "URL",
        env = "SMSBRIDGE_ADDRESS",
        default_value = "http://127.0.0.1:50051",
        global = true,
        help_heading = "Connection"
    )]
    address: String,
    /// The bearer token (`smsbridge token new` makes one)
    #[arg(
        long,
        env = "SMSBRIDGE_TOKEN",
        hide_env_values = true,
        global = true,
        help_heading = "Connection"
    )]
    token: Option<String>,
    /// A file with the bearer token; overrides --token
    #[arg(long, value_name = "FILE", global = true, help_heading = "Connection")]
    token_file: Option<PathBuf>,
    /// CA certificates (PEM) to verify the bridge's certificate with, instead of the system's
    #[arg(long, value_name = "FILE", global = true, help_heading = "Connection")]
    ca_file: Option<PathBuf>,
    /// The client's certificate (PEM) for mutual TLS, with --key-file
    #[arg(
        long,
        value_name = "FILE",
        requires = "key_file",
        global = true,
        help_heading = "Connection"
    )]
    cert_file: Option<PathBuf>,
    /// The client's key (PEM) for mutual TLS
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert_file",
        global = true,
        help_heading = "Connection"
    )]
    key_file: Option<PathBuf>,
    /// Timeout of the connection, and of each call
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = parse_duration,
        global = true,
        help_heading = "Connection"
    )]
    timeout: Duration,
    /// Print proto JSON, one message a line, instead of a table
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
}

impl fmt::Debug for ConnectArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectArgs")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
pub struct Bridge {
    service: Service,
    timeout: Duration,
}

/// The connection with the caller's credentials, on which generated clients are built.
pub type Service = InterceptedService<Channel, Credentials>;

/// Adds the bearer token to every call.
#[derive(Clone)]
pub struct Credentials(Option<MetadataValue<Ascii>>);

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

impl ConnectArgs {
    /// Timeout of the connection, and of each call.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// # Errors
    /// [`CliError::Usage`] if an argument is invalid, [`CliError::Unreachable`] if no connection can be made.
    pub async fn connect(&self) -> Result<Bridge, CliError> {
        // `localhost:50051` is a URL of the scheme `localhost`: without `//` it is a host and a port.
        let address = match self.address.contains("//") || !self.address.contains(':') {
            true => self.address.clone(),
            false => format!("http://{}", self.address),
        };
        let mut endpoint = Endpoint::from_shared(address)
            .map_err(|error| self.bad_address(&error.to_string()))?
            .connect_timeout(self.timeout)
            // A stream without events must notice that the bridge's host is gone.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .user_agent(concat!("smsbridge/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| self.bad_address(&error.to_string()))?;
        match endpoint.uri().scheme_str() {
            Some("http") if self.ca_file.is_none() && self.cert_file.is_none() => {}
            Some("http") => {
                return Err(CliError::Usage(format!(
                    "--ca-file and --cert-file need TLS, but --address is {}: use https://",
                    self.address
                )));
            }
            Some("https") => {
                endpoint = endpoint.tls_config(self.tls()?).map_err(|error| {
                    CliError::Usage(format!(
                        "cannot use the certificates: {}",
                        root_cause(&error)
                    ))
                })?;
            }
            _ => return Err(self.bad_address("it must begin with http:// or https://")),
        }
        let credentials = Credentials(self.authorization()?);
        let channel = tokio::time::timeout(self.timeout, endpoint.connect())
            .await
            .map_err(|_| format!("no connection within {}", show_duration(self.timeout)))
            .and_then(|connected| connected.map_err(|error| root_cause(&error)))
            .map_err(|detail| Unreachable {
                address: self.address.clone(),
                remedy: remedy_for(&detail),
                detail,
            })?;
        Ok(Bridge {
            service: InterceptedService::new(channel, credentials),
            timeout: self.timeout,
        })
    }

    fn tls(&self) -> Result<ClientTlsConfig, CliError> {
        let mut tls = match &self.ca_file {
            Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }

    fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, CliError> {
        // --token may come from the environment, which arguments override.
        let token = match (&self.token_file, &self.token) {
            (Some(file), _) => read(file)?,
            (None, Some(token)) => token.clone(),
            (None, None) => return Ok(None),
        };
        let mut value = format!("Bearer {}", token.trim())
            .parse::<MetadataValue<Ascii>>()
            .map_err(|_| {
                CliError::Usage(
                    "the token contains characters that are not allowed in an HTTP header".into(),
                )
            })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn bad_address(&self, detail: &str) -> CliError {
        CliError::Usage(format!(
            "--address {} is not valid: {detail}. Examples: http://127.0.0.1:50051 or https://sms.example.com",
            self.address
        ))
    }
}

impl Bridge {
    /// The connection, for a generated client.
    #[must_use]
    pub fn service(&self) -> Service {
        self.service.clone()
    }

    /// A call with the deadline that `--timeout` asks for.
    pub fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }
}

/// Maximum size of a response that the CLI accepts: enough for 10,000 look-up results with every field.
pub const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
#[error("cannot reach a bridge at {address}: {detail}\n  {remedy}")]
pub struct Unreachable {
    address: String,
    detail: String,
    remedy: &'static str,
}

/// The remedy for a failed connection, by the text of its innermost cause: the libraries' errors have no common type.
fn remedy_for(detail: &str) -> &'static str {
    if detail.contains("invalid peer certificate") {
        "If the bridge's certificate is from a private CA, name the CA's certificate with --ca-file FILE. The host in --address must be one of the certificate's names"
    } else if detail.contains("CertificateRequired") {
        "The bridge requires a client certificate: --cert-file FILE and --key-file FILE"
    } else if detail.contains("InvalidContentType") || detail.contains("corrupt message") {
        "The port does not use TLS: write http:// instead of https://, or check that it is the bridge's gRPC port"
    } else {
        "Start one with `smsbridge serve` or `smsbridge demo`, or set its address with --address URL or SMSBRIDGE_ADDRESS"
    }
}

/// The innermost source of an error: tonic's own text is only "transport error".
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn read(file: &PathBuf) -> Result<String, CliError> {
    fs::read_to_string(file)
        .map_err(|error| CliError::Usage(format!("cannot read {}: {error}", file.display())))
}
