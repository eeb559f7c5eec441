//! Reads and checks the TLS files of the gRPC server, before any port is bound, and those for the broker. Mistakes name the key of the
//! file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::{
    Amqp, Grpc,
    mistake::{Mistake, Origin},
};

/// The content of the files. Has no `Debug`, as it contains a private key.
#[derive(PartialEq)]
pub struct TlsFiles {
    /// The server's certificate first, then intermediate certificates.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// The CA of client certificates; set for mutual TLS.
    pub client_ca: Option<Vec<CertificateDer<'static>>>,
}

impl TlsFiles {
    /// Reads the configured files. `None` if TLS is not configured.
    ///
    /// # Errors
    /// All mistakes: unreadable files, files with other content, a key that does not belong to the certificate.
    pub fn read(grpc: &Grpc) -> Result<Option<Self>, Vec<Mistake>> {
        let (Some(cert_path), Some(key_path)) = (&grpc.tls_cert_file, &grpc.tls_key_file) else {
            return Ok(None);
        };
        let mut mistakes = Vec::new();
        let keys = ("grpc.tls_cert_file", "grpc.tls_key_file");
        let (chain, key) = chain_and_key(keys, cert_path, key_path, &mut mistakes).unzip();
        let client_ca = grpc.tls_client_ca_file.as_ref().and_then(|path| {
            let pem = read("grpc.tls_client_ca_file", path, &mut mistakes)?;
            certificates("grpc.tls_client_ca_file", path, &pem, &mut mistakes)
        });
        match (chain, key) {
            (Some(chain), Some(key)) if mistakes.is_empty() => Ok(Some(Self {
                chain,
                key,
                client_ca,
            })),
            _ => Err(mistakes),
        }
    }
}

/// The paths of the TLS files for the connection to the broker.
#[derive(Debug, Clone, Default)]
pub struct BrokerTlsPaths {
    ca: Option<PathBuf>,
    cert_and_key: Option<(PathBuf, PathBuf)>,
}

/// Their content, in PEM. Has no `Debug`, as it contains a private key.
pub struct BrokerTls {
    /// CAs that are trusted beside the public ones.
    pub ca: Option<String>,
    /// The client's certificate with intermediate ones, and its key.
    pub cert_and_key: Option<(Vec<u8>, Vec<u8>)>,
}

impl BrokerTlsPaths {
    #[must_use]
    pub fn new(amqp: &Amqp) -> Self {
        let (cert, key) = (amqp.tls_cert_file.clone(), amqp.tls_key_file.clone());
        Self {
            ca: amqp.tls_ca_file.clone(),
            cert_and_key: cert.zip(key),
        }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// All mistakes, as [`TlsFiles::read`].
    pub fn read(&self) -> Result<BrokerTls, Vec<Mistake>> {
        const CA: &str = "amqp.tls_ca_file";
        let mut mistakes = Vec::new();
        let ca = self.ca.as_ref().and_then(|path| {
            let pem = read(CA, path, &mut mistakes)?;
            certificates(CA, path, &pem, &mut mistakes)?;
            // Text outside of the certificates may have any encoding.
            Some(String::from_utf8_lossy(&pem).into_owned())
        });
        let cert_and_key = self.cert_and_key.as_ref().and_then(|(cert, key)| {
            let keys = ("amqp.tls_cert_file", "amqp.tls_key_file");
            chain_and_key(keys, cert, key, &mut mistakes)?;
            fs::read(cert).ok().zip(fs::read(key).ok())
        });
        match mistakes.is_empty() {
            true => Ok(BrokerTls { ca, cert_and_key }),
            false => Err(mistakes),
        }
    }
}

/// Reads a certificate and its key, whose configuration keys are `names`.
fn chain_and_key(
    names: (&str, &str),
    cert_path: &Path,
    key_path: &Path,
    mistakes: &mut Vec<Mistake>,
) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let cert = read(names.0, cert_path, mistakes);
    let key = read(names.1, key_path, mistakes);
    let chain = cert.and_then(|pem| certificates(names.0, cert_path, &pem, mistakes));
    let key = key.and_then(|pem| {
        let read = PrivateKeyDer::from_pem_slice(&pem).ok();
        if read.is_none() {
            mistakes.push(contains_no(names.1, key_path, "private key"));
        }
        read
    });
    let (chain, key) = chain.zip(key)?;
    if let Err(error) =
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &ring::default_provider())
    {
        mistakes.push(Mistake {
            key: names.1.to_owned(),
            origin: Origin::Default,
            problem: format!(
                "the key in {} does not belong to the first certificate in {}: {error}",
                key_path.display(),
                cert_path.display()
            ),
            remedy: "name the key of that certificate; its own certificate must be the first one"
                .to_owned(),
        });
        return None;
    }
    Some((chain, key))
}

fn read(key: &str, path: &Path, mistakes: &mut Vec<Mistake>) -> Option<Vec<u8>> {
    match fs::read(path) {
        Ok(pem) => Some(pem),
        Err(error) => {
            mistakes.push(Mistake {
                key: key.to_owned(),
                origin: Origin::Default,
                problem: format!("can't read {}: {error}", path.display()),
                remedy: "name a file that this process may read".to_owned(),
            });
            None
        }
    }
}

fn certificates(
    key: &str,
    path: &Path,
    pem: &[u8],
    mistakes: &mut Vec<Mistake>,
) -> Option<Vec<CertificateDer<'static>>> {
    let all: Option<Vec<_>> = CertificateDer::pem_slice_iter(pem)
        .map(Result::ok)
        .collect();
    let all = all.filter(|all| !all.is_empty());
    if all.is_none() {
        mistakes.push(contains_no(key, path, "certificate"));
    }
    all
}

fn contains_no(key: &str, path: &Path, wanted: &str) -> Mistake {
    Mistake {
        key: key.to_owned(),
        origin: Origin::Default,
        problem: format!("{} contains no {wanted} in PEM format", path.display()),
        remedy: "name a PEM file, with lines such as -----BEGIN …-----".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{KeyPair, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;
    use crate::config::Config;

    fn problems(grpc: &Grpc) -> Vec<(String, String)> {
        let mistakes = TlsFiles::read(grpc).err().unwrap_or_default();
        mistakes
            .into_iter()
            .map(|mistake| (mistake.key, mistake.problem))
            .collect()
    }

    fn write(folder: &TempDir, name: &str, content: &str) -> Option<PathBuf> {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        Some(path)
    }

    #[test]
    fn mistakes_name_the_key_of_the_file() {
        let folder = TempDir::new().unwrap();
        let issued = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let cert = write(&folder, "tls.crt", &issued.cert.pem());
        let key = write(&folder, "tls.key", &issued.signing_key.serialize_pem());
        let mut grpc = Config::load(None, std::iter::empty(), &[]).unwrap().grpc;
        assert!(TlsFiles::read(&grpc).unwrap().is_none());

        (grpc.tls_cert_file, grpc.tls_key_file) = (cert.clone(), key.clone());
        assert!(TlsFiles::read(&grpc).unwrap().unwrap().client_ca.is_none());
        grpc.tls_client_ca_file.clone_from(&cert);
        assert!(TlsFiles::read(&grpc).unwrap().unwrap().client_ca.is_some());

        (grpc.tls_cert_file, grpc.tls_key_file) = (key.clone(), cert);
        grpc.tls_client_ca_file = Some(folder.path().join("gone"));
        let [cert, key, ca] = problems(&grpc).try_into().unwrap();
        assert!(
            cert.0 == "grpc.tls_cert_file" && cert.1.contains("contains no certificate"),
            "{cert:?}"
        );
        assert!(
            key.0 == "grpc.tls_key_file" && key.1.contains("contains no private key"),
            "{key:?}"
        );
        assert!(
            ca.0 == "grpc.tls_client_ca_file" && ca.1.contains("gone"),
            "{ca:?}"
        );
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let folder = TempDir::new().unwrap();
        let issued = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let other = KeyPair::generate().unwrap().serialize_pem();
        let mut grpc = Config::load(None, std::iter::empty(), &[]).unwrap().grpc;
        grpc.tls_cert_file = write(&folder, "tls.crt", &issued.cert.pem());
        grpc.tls_key_file = write(&folder, "tls.key", &other);
        let [(key, problem)] = problems(&grpc).try_into().unwrap();
        assert_eq!(key, "grpc.tls_key_file");
        assert!(problem.contains("does not belong to"), "{problem}");
    }
}
