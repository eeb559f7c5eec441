//! TLS of the gRPC server: its certificate, key and client CA come from files, which are read again when they change.
//!
//! Invariants: the files are replaced together or not at all; existing connections keep the configuration that they began with.
//! Neighbours: `config::tls` checks the files, `connections` performs handshakes, `ops::reload` calls [`Reload::reload`].

use std::{sync::Arc, time::Duration};

use crate::{
    config::{self, ConfigErrors, Mistake, Origin, tls::TlsFiles},
    ops::{metrics::ReloadedFiles, reload::Reload},
};
use parking_lot::RwLock;
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The TLS configuration of the server, replaced when its files change.
pub(in crate::grpc) struct Tls {
    grpc: config::Grpc,
    current: RwLock<LoadedCertificate>,
}

struct LoadedCertificate {
    files: TlsFiles,
    config: Arc<ServerConfig>,
}

impl LoadedCertificate {
    /// With `tls_client_ca_file` clients are asked for a certificate; without tokens they must have one.
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
    /// Reads the files. `None` if TLS is not configured.
    ///
    /// # Errors
    /// All mistakes in the files.
    pub(in crate::grpc) fn read(grpc: &config::Grpc) -> Result<Option<Self>, ConfigErrors> {
        let current = LoadedCertificate::read(grpc)?;
        Ok(current.map(|current| Self {
            grpc: grpc.clone(),
            current: RwLock::new(current),
        }))
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().config)
    }

    /// Performs the handshake. `None` if it failed or did not end by `until`.
    pub(in crate::grpc) async fn accept<I>(&self, stream: I, until: Instant) -> Option<TlsStream<I>>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(self.config()).accept(stream);
        match tokio::time::timeout_at(until, handshake).await {
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
}

impl Reload for Tls {
    const NAME: &'static str = "the TLS configuration of the gRPC server";
    const FILES: ReloadedFiles = ReloadedFiles::Tls;
    const INTERVAL: Duration = Duration::from_secs(2);

    fn reload(&self) -> Result<bool, String> {
        let read = LoadedCertificate::read(&self.grpc).map_err(|errors| problems(&errors))?;
        let new = read.expect("TLS stays configured while the process runs");
        let mut current = self.current.write();
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

/// The mistakes without the origin of their keys, which is known only while the configuration is read.
fn problems(errors: &ConfigErrors) -> String {
    let mistakes = errors.mistakes().iter();
    let problems = mistakes.map(|one| format!("`{}`: {}; {}", one.key, one.problem, one.remedy));
    problems.collect::<Vec<_>>().join("; ")
}

/// Certificate and key were checked before, so the problem is the client CA.
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
    fn files_are_replaced_together_or_not_at_all() {
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

        assert!(!tls.reload().unwrap(), "nothing changed");
        write(&second.cert.pem(), &first.signing_key);
        let problem = tls.reload().expect_err("a key of another");
        assert!(
            problem.starts_with("`grpc.tls_key_file`: the key in "),
            "{problem}"
        );
        fs::remove_file(&key_file).unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&tls.config(), &began_with));
        write(&second.cert.pem(), &second.signing_key);
        assert!(tls.reload().unwrap());
        assert!(!Arc::ptr_eq(&tls.config(), &began_with));
        assert!(!tls.reload().unwrap(), "nothing changed since");
    }
}
