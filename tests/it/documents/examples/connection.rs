//! What all examples do with addresses, certificates, errors and `--help`.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tempfile::TempDir;

use super::{
    FIRST,
    language::{Examples, NodeExamples, PythonExamples},
};
use crate::support::{
    bridge::TestBridge,
    external_programs::{end, run},
    simulator::TestSimulator,
};

/// A folder with the certificates and keys of a private CA: `ca.pem`, `server.pem`, `client.pem` and their keys.
fn certificates() -> TempDir {
    let folder = TempDir::new().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca.pem", &authority.pem());
    let issuer = Issuer::new(params, key);
    for (name, usage) in [
        ("server", ExtendedKeyUsagePurpose::ServerAuth),
        ("client", ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "billing");
        params.extended_key_usages = vec![usage];
        write(
            &format!("{name}.pem"),
            &params.signed_by(&key, &issuer).unwrap().pem(),
        );
        write(&format!("{name}.key"), &key.serialize_pem());
    }
    folder
}

async fn connects_with_a_private_ca_and_a_client_certificate(examples: &impl Examples) {
    let folder = certificates();
    let file = |name: &str| folder.path().join(name);
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::with(&simulator, |config| {
        config.grpc.tls_cert_file = Some(file("server.pem"));
        config.grpc.tls_key_file = Some(file("server.key"));
        config.grpc.tls_client_ca_file = Some(file("ca.pem"));
    })
    .await;
    let text = |file: PathBuf| file.to_str().unwrap().to_owned();
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|name| text(file(name)));
    let trusting = ["--ca-file", &ca];
    let identified = ["--ca-file", &ca, "--cert-file", &cert, "--key-file", &key];
    let port = bridge.addresses.grpc.port();
    let [with_scheme, without] =
        ["https://localhost", "localhost"].map(|host| format!("{host}:{port}"));
    for address in [&with_scheme, &without] {
        let mut lookup = examples.command("lookup", &[FIRST, "--address", address]);
        lookup.args(identified);
        let printed = run(lookup).await;
        assert!(printed.contains(FIRST), "{printed}");
    }
    let plain = format!("http://{without}");
    for (address, options, expected) in [
        (&with_scheme, &[][..], "UNAVAILABLE"),
        (&with_scheme, &trusting, "UNAVAILABLE"),
        (&plain, &identified, "use https://"),
    ] {
        let mut lookup =
            examples.command("lookup", &[FIRST, "--address", address, "--timeout", "5"]);
        lookup.args(options);
        let ended = end(lookup).await;
        assert_eq!(ended.status, Some(1), "{address} {options:?}: {ended:?}");
        assert!(
            ended.stderr.contains(expected),
            "{address} {options:?}: {ended:?}"
        );
    }
    bridge.stop().await;
}

/// The reason, each mistake, and the time to wait of an error.
async fn shows_the_details_of_errors(examples: &impl Examples, send: &str) {
    let simulator = TestSimulator::start().await;
    let bridge = TestBridge::start(&simulator).await;
    let address = bridge.addresses.grpc.to_string();
    // With a sender of one character there are two mistakes.
    let invalid = [FIRST, "--text", "", "--sender", "x", "--address", &address];
    let ended = end(examples.command(send, &invalid)).await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    for expected in [
        "INVALID_ARGUMENT: ",
        "reason: INVALID_REQUEST",
        "\n  message.text: ",
        "\n  message.from: ",
    ] {
        assert!(ended.stderr.contains(expected), "{expected}: {ended:?}");
    }
    bridge.stop().await;

    let bridge = TestBridge::at("http://127.0.0.1:1", TempDir::new().unwrap(), |_| ()).await;
    let ended = examples
        .end(&bridge, send, &[FIRST, "--text", "Hello"])
        .await;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    for expected in [
        "UNAVAILABLE: ",
        "reason: API_UNAVAILABLE",
        "  try again in ",
    ] {
        assert!(ended.stderr.contains(expected), "{expected}: {ended:?}");
    }
    bridge.stop().await;
}

/// Each program explains itself, and refuses options that it does not know.
async fn explains_itself(examples: &impl Examples, at_least: usize) {
    let scripts = examples.scripts();
    assert!(scripts.len() >= at_least, "{scripts:?}");
    for script in scripts {
        let printed = run(examples.command(&script, &["--help"])).await;
        for expected in ["usage: ", "--timeout", "--ca-file"] {
            assert!(printed.contains(expected), "{script}: {printed}");
        }
        let ended = end(examples.command(&script, &["--nonsense"])).await;
        assert_eq!(ended.status, Some(2), "{script}: {ended:?}");
    }
}

#[tokio::test]
async fn python_connects_with_a_private_ca_and_a_client_certificate() {
    connects_with_a_private_ca_and_a_client_certificate(&PythonExamples::ready().await).await;
}

#[tokio::test]
async fn node_connects_with_a_private_ca_and_a_client_certificate() {
    connects_with_a_private_ca_and_a_client_certificate(&NodeExamples::ready().await).await;
}

#[tokio::test]
async fn python_shows_the_details_of_errors() {
    shows_the_details_of_errors(&PythonExamples::ready().await, PythonExamples::SEND).await;
}

#[tokio::test]
async fn node_shows_the_details_of_errors() {
    shows_the_details_of_errors(&NodeExamples::ready().await, NodeExamples::SEND).await;
}

#[tokio::test]
async fn python_examples_explain_themselves() {
    explains_itself(&PythonExamples::ready().await, 12).await;
}

#[tokio::test]
async fn node_examples_explain_themselves() {
    explains_itself(&NodeExamples::ready().await, 12).await;
}
