//! TLS of the gRPC server, from files that the configuration has checked, read again when they change.
//!
//! Invariants: new files are taken together or not at all; what is wrong with them is logged once, and connections go on with
//! the earlier ones. Neighbours: `config::tls` checks the files, `connections` shakes hands.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::config::{self, ConfigErrors, Mistake, Origin, tls::TlsFiles};

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// The server's TLS.
pub(in crate::grpc) struct Tls(RwLock<Current>);

struct Current {
    files: TlsFiles,
    config: Arc<ServerConfig>,
}

impl Current {
    /// Clients' certificates are asked for with `tls_client_ca_file`, and needed unless there are tokens too.
    fn read(grpc: &config::Grpc) -> Result<Option<Self>, ConfigErrors> {
        let Some(files) = TlsFiles::read(grpc).map_err(ConfigErrors::from)? else {
            return Ok(None);
        };
        let config = server_config(&files, grpc.tokens_file.is_some())
            .map_err(|error| ConfigErrors::from(vec![unusable(&error)]))?;
        Ok(Some(Self { files, config }))
    }
}

impl Tls {
    /// Reads the files; `None` where none are configured.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub(in crate::grpc) fn read(grpc: &config::Grpc) -> Result<Option<Self>, ConfigErrors> {
        let current = Current::read(grpc)?;
        Ok(current.map(|current| Self(RwLock::new(current))))
    }

    fn config(&self) -> Arc<ServerConfig> {
        let current = self.0.read();
        Arc::clone(&current.config)
    }

    /// Shakes hands; `None` where that failed, or was not done by `until`.
    pub(in crate::grpc) async fn accept<I>(&self, stream: I, until: Instant) -> Option<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let shaken = TlsAcceptor::from(self.config()).accept(stream);
        match tokio::time::timeout_at(until, shaken).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!("a TLS handshake took too long");
                None
            }
        }
    }

    /// Reads the files again whenever they change, until `stop`: certificates are renewed while the bridge runs. Connections
    /// that are there go on with what they began with.
    pub(in crate::grpc) async fn watch(
        self: Arc<Self>,
        grpc: config::Grpc,
        stop: CancellationToken,
    ) {
        let grpc = Arc::new(grpc);
        let mut told = String::new();
        while stop
            .run_until_cancelled(tokio::time::sleep(RELOAD_INTERVAL))
            .await
            .is_some()
        {
            let (tls, grpc) = (Arc::clone(&self), Arc::clone(&grpc));
            let Ok(read) = tokio::task::spawn_blocking(move || tls.read_again(&grpc)).await else {
                continue;
            };
            match read {
                Ok(true) => tracing::info!("the files of TLS changed and were read again"),
                Ok(false) => {}
                Err(errors) => {
                    let problem = errors.to_string();
                    if problem != told {
                        tracing::error!(%errors, "the files of TLS changed and can't be used: the earlier ones stay in use");
                        told = problem;
                    }
                    continue;
                }
            }
            told.clear();
        }
    }

    /// Takes the files as they are now; says whether they changed. Blocks.
    fn read_again(&self, grpc: &config::Grpc) -> Result<bool, ConfigErrors> {
        // The keys of the configuration do not change while it runs.
        let Some(new) = Current::read(grpc)? else {
            return Ok(false);
        };
        let mut current = self.0.write();
        let is_changed = new.files != current.files;
        if is_changed {
            *current = new;
        }
        Ok(is_changed)
    }
}

fn server_config(
    files: &TlsFiles,
    client_auth_optional: bool,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(client_ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in client_ca {
                roots.add(certificate.clone())?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if client_auth_optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(files.chain.clone(), files.key.clone_key())?;
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(Arc::new(config))
}

/// The key goes with its certificate, as was checked: it is the roots.
fn unusable(error: &rustls::Error) -> Mistake {
    Mistake {
        key: "grpc.tls_client_ca_file".to_owned(),
        origin: Origin::Default,
        problem: format!("its certificates can't be used: {error}"),
        remedy: "name a file with certificates of authorities, in PEM".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{KeyPair, generate_simple_self_signed};

    use super::*;
    use crate::config::Config;

    #[test]
    fn files_are_taken_together_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let (cert_file, key_file) = (folder.path().join("crt"), folder.path().join("key"));
        let issue = || generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let write = |cert: &str, key: &KeyPair| {
            fs::write(&cert_file, cert).unwrap();
            fs::write(&key_file, key.serialize_pem()).unwrap();
        };
        let (first, second) = (issue(), issue());
        write(&first.cert.pem(), &first.signing_key);
        let mut grpc = Config::load(None, std::iter::empty(), &[]).unwrap().grpc;
        grpc.tls_cert_file = Some(cert_file.clone());
        grpc.tls_key_file = Some(key_file.clone());
        let tls = Tls::read(&grpc).unwrap().unwrap();
        let began_with = tls.config();

        assert!(!tls.read_again(&grpc).unwrap(), "nothing changed");
        write(&second.cert.pem(), &first.signing_key);
        assert!(tls.read_again(&grpc).is_err(), "a key of another");
        fs::remove_file(&key_file).unwrap();
        assert!(tls.read_again(&grpc).is_err());
        assert!(Arc::ptr_eq(&tls.config(), &began_with));
        write(&second.cert.pem(), &second.signing_key);
        assert!(tls.read_again(&grpc).unwrap());
        assert!(!Arc::ptr_eq(&tls.config(), &began_with));
        assert!(!tls.read_again(&grpc).unwrap(), "nothing changed since");
    }
}
