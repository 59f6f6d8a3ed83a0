//! What every process of one cluster knows and nobody else: proved in the handshake, never sent, never shown.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Shorter ones could be guessed from one overheard handshake.
const LENGTH_MIN: usize = 16;

/// The secret of a cluster. Neither `Debug` nor any error shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A text that will not do as a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster's secret has {length} bytes and needs at least {LENGTH_MIN}; \
     \"openssl rand -hex 32\" makes a good one, the same for every process"
)]
pub struct SecretTooShort {
    length: usize,
}

impl Secret {
    /// Takes a text, less the white space around it (files end with a line feed).
    ///
    /// # Errors
    /// If it is too short.
    pub fn new(text: &str) -> Result<Secret, SecretTooShort> {
        let text = text.trim();
        if text.len() < LENGTH_MIN { Err(SecretTooShort { length: text.len() }) } else { Ok(Secret(text.to_owned())) }
    }

    /// A new one from the system's random numbers: 64 hexadecimal digits.
    ///
    /// # Errors
    /// If the system has none to give.
    pub fn generate() -> std::io::Result<Secret> {
        Ok(Secret(hexadecimal(&random::<32>()?)))
    }

    /// The text itself, for the environment of a child process and nothing else.
    pub fn for_child(&self) -> &str {
        &self.0
    }

    /// The proof that its maker knows the secret: HMAC-SHA256 over `parts`, each with its length before it.
    pub(super) fn proof(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.hashed(parts).finalize().into_bytes().into()
    }

    /// Whether a proof is one, without telling by its time how much of it is right.
    pub(super) fn is_proof(&self, parts: &[&[u8]], proof: &[u8]) -> bool {
        self.hashed(parts).verify_slice(proof).is_ok()
    }

    fn hashed(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut hash = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("HMAC takes keys of any length");
        for part in parts {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Random bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
    Ok(bytes)
}

/// Two digits per byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_never_shown() {
        let secret = Secret::new("correct horse battery staple\n").expect("long enough");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.for_child(), "correct horse battery staple");
    }

    #[test]
    fn short_ones_are_refused_without_being_repeated() {
        let error = Secret::new(" short-secret \n").expect_err("too short").to_string();
        assert!(error.contains("12 bytes") && !error.contains("short-secret"), "{error}");
    }

    #[test]
    fn proofs_depend_on_key_and_on_where_parts_end() {
        let (one, other) = (Secret::generate().expect("random"), Secret::generate().expect("random"));
        let proof = one.proof(&[b"ab", b"c"]);
        assert!(one.is_proof(&[b"ab", b"c"], &proof));
        assert!(!one.is_proof(&[b"a", b"bc"], &proof));
        assert!(!one.is_proof(&[b"ab", b"c"], &proof[..31]));
        assert!(!other.is_proof(&[b"ab", b"c"], &proof));
    }
}
