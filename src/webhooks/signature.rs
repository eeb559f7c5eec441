//! Verifies the signatures of pushes to the path of subscriptions: the HMAC of the body's bytes, in a header.
//!
//! Header, algorithm and encoding are configured, because no source says which ones Infobip uses (docs/INFOBIP_API.md#push).
//! Invariants: signatures are compared in constant time; either of two keys admits a push, so that one can replace the other.

use axum::http::{HeaderMap, HeaderName};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Sha256, Sha384, Sha512};

use crate::config::{self, HmacAlgorithm, HmacEncoding};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) struct Signatures {
    /// One or two.
    keys: Vec<SecretString>,
    header: HeaderName,
    algorithm: HmacAlgorithm,
    encoding: HmacEncoding,
}

/// The bytes of a signature that a push has. They are not verified.
pub(super) struct Presented(Vec<u8>);

impl Signatures {
    /// `None` without a key.
    pub(super) fn new(config: &config::Http) -> Option<Self> {
        let key = config.hmac_key.clone()?;
        let header = config.hmac_header.as_deref()?.as_bytes();
        Some(Self {
            keys: [Some(key), config.hmac_previous_key.clone()]
                .into_iter()
                .flatten()
                .collect(),
            header: HeaderName::from_bytes(header)
                .expect("the check of the configuration refuses other headers"),
            algorithm: config.hmac_algorithm,
            encoding: config.hmac_encoding,
        })
    }

    /// The signature in the headers, known before the body is read. `None`: there is none of the configured length.
    pub(super) fn presented(&self, headers: &HeaderMap) -> Option<Presented> {
        let mut values = headers.get_all(&self.header).iter();
        let text = values.next()?.to_str().ok()?.trim();
        // Of two signatures, which one counts would depend on who reads them.
        if values.next().is_some() {
            return None;
        }
        let (name, length) = match self.algorithm {
            HmacAlgorithm::Sha256 => ("sha256=", 32),
            HmacAlgorithm::Sha384 => ("sha384=", 48),
            HmacAlgorithm::Sha512 => ("sha512=", 64),
        };
        let text = match text.split_at_checked(name.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(name) => rest,
            _ => text,
        };
        let bytes = match self.encoding {
            HmacEncoding::Hex => hex::decode(text).ok()?,
            HmacEncoding::Base64 => BASE64.decode(text).ok()?,
        };
        (bytes.len() == length).then_some(Presented(bytes))
    }

    /// Whether one of the keys signed this body.
    pub(super) fn verify(&self, Presented(signature): &Presented, body: &[u8]) -> bool {
        let mut is_signed = false;
        for key in &self.keys {
            // Both are tried, so that the time does not tell which one it was.
            is_signed |= self.is_signed_by(key.expose_secret().as_bytes(), signature, body);
        }
        is_signed
    }

    fn is_signed_by(&self, key: &[u8], signature: &[u8], body: &[u8]) -> bool {
        /// `verify_slice` compares in constant time.
        macro_rules! verified {
            ($hash:ty) => {
                Hmac::<$hash>::new_from_slice(key)
                    .is_ok_and(|mac| mac.chain_update(body).verify_slice(signature).is_ok())
            };
        }
        match self.algorithm {
            HmacAlgorithm::Sha256 => verified!(Sha256),
            HmacAlgorithm::Sha384 => verified!(Sha384),
            HmacAlgorithm::Sha512 => verified!(Sha512),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config::tests::load;

    // Made by another implementation (`openssl dgst -sha256 -hmac 0123456789abcdef`).
    const BODY: &[u8] = b"{\"results\":[]}";
    const SHA256: &str = "39e0e89229784e61788d17912878e81949a579da9a6b7b669f2066120e41ce79";
    const SHA384: &str = "fc1b9163eb59bc1950c11c3f1d003ccea2311fd69ba4ed83c260b0d21ec5f59c798d09bead619dcd4b3c0d9afc948d01";
    const SHA512: &str = "814077f21fdd706349597fbda6aa11e50aaba9bfbbe1d657b7b9b77919dfeac00f51dbce7dbf1e205f80fb38ad45c9ae00e1198bfabe642296ef9e655f321f57";
    const SHA256_BASE64: &str = "OeDokil4TmF4jReRKHjoGUmledqaa3tmnyBmEg5Bznk=";
    /// With the key `fedcba9876543210`.
    const SHA256_PREVIOUS: &str =
        "e07ca608ebfcfd5e7e11af824759a2476bcdef870f61f4acdb42dc96a0507d32";

    fn signatures(more: &str) -> Signatures {
        let text = format!(
            "[http]\nhmac_key = \"0123456789abcdef\"\nhmac_header = \"X-Signature\"\n{more}"
        );
        Signatures::new(&load(&text, &[]).unwrap().http).unwrap()
    }

    fn admits(signatures: &Signatures, values: &[&str], body: &[u8]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-signature", HeaderValue::from_str(value).unwrap());
        }
        let presented = signatures.presented(&headers);
        presented.is_some_and(|presented| signatures.verify(&presented, body))
    }

    #[test]
    fn each_algorithm_and_encoding_admits_its_signature_only() {
        let all = [
            (signatures(""), SHA256),
            (signatures("hmac_algorithm = \"sha384\""), SHA384),
            (signatures("hmac_algorithm = \"sha512\""), SHA512),
            (signatures("hmac_encoding = \"base64\""), SHA256_BASE64),
        ];
        for (at, (signatures, _)) in all.iter().enumerate() {
            for (other, (_, signature)) in all.iter().enumerate() {
                let admitted = admits(signatures, &[signature], BODY);
                assert_eq!(admitted, at == other, "{at} {other}");
            }
        }
        let sha256 = &all[0].0;
        assert!(admits(sha256, &[&SHA256.to_uppercase()], BODY));
        assert!(admits(sha256, &[&format!("SHA256={SHA256}")], BODY));
        let unpadded = SHA256_BASE64.trim_end_matches('=');
        assert!(admits(&all[3].0, &[unpadded], BODY));
    }

    #[test]
    fn any_other_signature_or_body_is_refused() {
        let signatures = signatures("");
        assert!(!admits(&signatures, &[SHA256], b"{\"results\":[] }"));
        assert!(!admits(&signatures, &[SHA256_PREVIOUS], BODY));
        for values in [
            &[][..],
            &[""],
            &["sha256="],
            &["not hexadecimal"],
            &[&SHA256[..62]],
            &[&SHA256[..63]],
            &[&format!("{SHA256}00")],
            &[&format!("sha512={SHA256}")],
            &[SHA256, SHA256],
        ] {
            assert!(!admits(&signatures, values, BODY), "{values:?}");
        }
    }

    #[test]
    fn two_keys_admit_while_one_replaces_the_other() {
        let both = signatures("hmac_previous_key = \"fedcba9876543210\"");
        assert!(admits(&both, &[SHA256], BODY));
        assert!(admits(&both, &[SHA256_PREVIOUS], BODY));
        assert!(!admits(&both, &[SHA256_PREVIOUS], b"{}"));
    }
}
