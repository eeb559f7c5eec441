//! Connects the client commands to a bridge: address, TLS, credentials, deadlines, and the text of gRPC errors.

use std::{fmt, fs, path::PathBuf, time::Duration};

use clap::Args;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use super::{CliError, time::parse_duration};

#[derive(Args)]
pub struct ConnectArgs {
    /// The bridge's gRPC address; https for TLS
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
    /// # Errors
    /// [`CliError::Usage`] if an argument is invalid, [`CliError::Unreachable`] if no connection can be made.
    pub async fn connect(&self) -> Result<Bridge, CliError> {
        let mut endpoint = Endpoint::from_shared(self.address.clone())
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
            .map_err(|_| Unreachable {
                address: self.address.clone(),
                detail: format!("no connection within {:?}", self.timeout),
            })?
            .map_err(|error| Unreachable {
                address: self.address.clone(),
                detail: root_cause(&error),
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

/// The largest response that is read: 10,000 look-ups with every field.
pub const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;

/// Printed if calls fail although the connection was made.
const NO_GRPC: &str = "If this happens every time: check that --address is the bridge's gRPC port, that http or https is right, and whether the bridge requires a client certificate (--cert-file)";

#[derive(Debug, thiserror::Error)]
#[error(
    "cannot reach a bridge at {address}: {detail}\n  Start one with `smsbridge serve` or `smsbridge demo`, or set its address with --address URL or SMSBRIDGE_ADDRESS"
)]
pub struct Unreachable {
    address: String,
    detail: String,
}

/// A gRPC error: code and message, then the `google.rpc` details, each on a line.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct CallError {
    pub code: Code,
    /// When to try again, if the bridge says so.
    pub retry_after: Option<Duration>,
    text: String,
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let mut text = code_name(status.code());
        let mut metadata = Vec::new();
        if let Some(info) = details.error_info() {
            text.push_str(&format!(" ({})", info.reason));
            metadata.extend(info.metadata.iter());
            metadata.sort();
        }
        // tonic sets a source if the connection failed; a status that the bridge sent has none.
        match std::error::Error::source(&status) {
            Some(broken) => text.push_str(&format!(
                ": the connection broke: {}\n  {NO_GRPC}",
                root_cause(broken)
            )),
            None if status.message().is_empty() => {}
            None => text.push_str(&format!(": {}", status.message())),
        }
        let violations: Vec<_> = details
            .bad_request()
            .iter()
            .flat_map(|bad| &bad.field_violations)
            .collect();
        // If there is one mistake, the message contains it already.
        let is_printed = |description: &str| violations.len() == 1 && text.contains(description);
        let missing: Vec<_> = violations
            .iter()
            .filter(|violation| !is_printed(&violation.description))
            .collect();
        for violation in missing {
            text.push_str(&format!(
                "\n  {}: {}",
                violation.field, violation.description
            ));
        }
        for (key, value) in metadata {
            text.push_str(&format!("\n  {key} = {value}"));
        }
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        if let Some(delay) = retry_after {
            text.push_str(&format!("\n  try again in {delay:?}"));
        }
        Self {
            code: status.code(),
            retry_after,
            text,
        }
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        Self::Call(status.into())
    }
}

/// A code as gRPC's documentation writes it: `INVALID_ARGUMENT`.
fn code_name(code: Code) -> String {
    if code == Code::Cancelled {
        return "CANCELLED".into();
    }
    let mut name = String::new();
    for character in format!("{code:?}").chars() {
        if character.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(character.to_uppercase());
    }
    name
}

/// The innermost source of an error: tonic's own text is only "transport error".
fn root_cause(error: &dyn std::error::Error) -> String {
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

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    #[test]
    fn code_names_are_those_of_grpc() {
        assert_eq!(code_name(Code::InvalidArgument), "INVALID_ARGUMENT");
        assert_eq!(code_name(Code::Cancelled), "CANCELLED");
        assert_eq!(code_name(Code::Ok), "OK");
    }

    #[test]
    fn error_text_contains_all_details() {
        let mut details = ErrorDetails::with_error_info(
            "INVALID_REQUEST",
            "smsbridge",
            [("request_id".to_owned(), "r1".to_owned())],
        );
        details.set_bad_request(vec![
            FieldViolation::new("message.text", "is empty"),
            FieldViolation::new("message.destinations[1].to", "has no digits"),
        ]);
        details.set_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(Code::InvalidArgument, "2 mistakes", details);
        assert_eq!(
            CallError::from(status).to_string(),
            "INVALID_ARGUMENT (INVALID_REQUEST): 2 mistakes\n  message.text: is empty\n  message.destinations[1].to: has no digits\n  request_id = r1\n  try again in 2s"
        );
    }
}
