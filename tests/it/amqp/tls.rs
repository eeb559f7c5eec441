//! A broker with a certificate of a private CA, which asks for client certificates.

use std::{fs, path::PathBuf, sync::Arc};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use smsbridge::{
    amqp::{AmqpError, Endpoint, Session},
    config,
};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::support::{authority::Authority, broker::TestBroker, relay::relay_with};

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A TLS listener in front of the broker.
async fn start_tls(broker: &TestBroker, authority: &Authority) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&authority.pem)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .unwrap();
    let (chain, key) = authority.issue("broker", ServerAuth);
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate(&chain)], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let url = relay_with(&broker.url, move |client, mut server| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut client) = acceptor.accept(client).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        }
    })
    .await;
    url.replace("amqp://", "amqps://")
        .replace("127.0.0.1", "localhost")
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn write(&self, name: &str, pem: &str) -> Option<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, pem).unwrap();
        Some(path)
    }
}

async fn connect(endpoint: &Endpoint) -> Result<(), String> {
    match Session::open(endpoint, "test").await {
        Ok(session) => {
            session.close().await;
            Ok(())
        }
        Err(error) => {
            let is_tls = matches!(error, AmqpError::Refused { cause: "tls", .. });
            assert!(is_tls, "{error:?}");
            Err(error.to_string())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_a_private_ca_asks_for_a_client_certificate() {
    let broker = TestBroker::start().await;
    let authority = Authority::new();
    let url = start_tls(&broker, &authority).await;
    let files = Files {
        folder: tempfile::tempdir().unwrap(),
    };
    let mut amqp = config::Amqp {
        url: Some(url.into()),
        ..broker.config()
    };
    let endpoint = |amqp: &config::Amqp| Endpoint::configured(amqp).unwrap().unwrap();

    let untrusted = connect(&endpoint(&amqp)).await.unwrap_err();
    assert!(untrusted.contains("amqp.tls_ca_file"), "{untrusted}");

    amqp.tls_ca_file = files.write("ca.crt", &authority.pem);
    let no_certificate = connect(&endpoint(&amqp)).await.unwrap_err();
    assert!(
        no_certificate.contains("amqp.tls_cert_file"),
        "{no_certificate}"
    );

    let (certificate, key) = authority.issue("smsbridge", ClientAuth);
    amqp.tls_cert_file = files.write("client.crt", &certificate);
    amqp.tls_key_file = files.write("client.key", &key);
    let endpoint = endpoint(&amqp);
    connect(&endpoint).await.unwrap();

    // The files are read for each connection.
    let (_, other_key) = authority.issue("smsbridge", ClientAuth);
    files.write("client.key", &other_key);
    let wrong_key = connect(&endpoint).await.unwrap_err();
    assert!(
        wrong_key.contains("amqp.tls_key_file") && wrong_key.contains("does not belong"),
        "{wrong_key}"
    );
    files.write("client.key", &key);
    connect(&endpoint).await.unwrap();
}
