//! TLS of the gRPC server, from files that the configuration has checked.

use std::time::Duration;

use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::config::{self, ConfigErrors, tls::TlsFiles};

/// How long a handshake may take: a client that connects and says nothing holds its place no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's TLS; `None` where it is not configured. Clients' certificates are asked for with `tls_client_ca_file`, and
/// needed unless there are tokens too.
///
/// # Errors
/// What is wrong with the files.
pub fn server_tls(config: &config::Grpc) -> Result<Option<ServerTlsConfig>, ConfigErrors> {
    let Some(files) = TlsFiles::read(config).map_err(ConfigErrors::from)? else {
        return Ok(None);
    };
    let mut tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&files.cert_pem, &files.key_pem))
        .timeout(HANDSHAKE_TIMEOUT);
    if let Some(ca_pem) = &files.client_ca_pem {
        tls = tls
            .client_ca_root(Certificate::from_pem(ca_pem))
            .client_auth_optional(config.tokens_file.is_some());
    }
    Ok(Some(tls))
}
