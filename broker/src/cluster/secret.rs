//! The cluster's secret, and proofs of knowing it.

use std::fmt;
use std::path::Path;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A shorter secret could be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// Length of a proof.
pub const PROOF_BYTES: usize = 32;

/// What all nodes of a cluster know and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// The secret of these bytes; white space at the end does not count, because editors add it.
    pub fn new(bytes: &[u8]) -> Option<Secret> {
        let bytes = bytes.trim_ascii_end();
        (bytes.len() >= SECRET_BYTES_MIN).then(|| Secret(bytes.to_vec()))
    }

    /// Reads it from a file; the error says what to do.
    pub fn read(file: &Path) -> Result<Secret, String> {
        let bytes = std::fs::read(file)
            .map_err(|error| format!("cluster_secret_file {} cannot be read: {error}", file.display()))?;
        Secret::new(&bytes).ok_or_else(|| {
            format!(
                "cluster_secret_file {} has fewer than {SECRET_BYTES_MIN} bytes; make one with: head -c 32 /dev/urandom | base64 > {0}",
                file.display()
            )
        })
    }

    /// Proves knowledge of the secret in the role `role`, for the messages `said`. Nobody who does not know it can make one, and a proof is good for
    /// these messages and this role only.
    pub fn proof(&self, role: &str, said: &[&[u8]]) -> [u8; PROOF_BYTES] {
        self.mac(role, said).finalize().into_bytes().into()
    }

    /// Whether `proof` is what [`Secret::proof`] gives; takes the same time for all wrong ones.
    pub fn is_proof(&self, role: &str, said: &[&[u8]], proof: &[u8]) -> bool {
        self.mac(role, said).verify_slice(proof).is_ok()
    }

    fn mac(&self, role: &str, said: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(role.as_bytes());
        // The roles differ in length and the messages have fixed ones, so no two inputs read the same.
        said.iter().for_each(|part| mac.update(part));
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_for_its_secret_role_and_messages_only() {
        let secret = Secret::new(b"0123456789abcdef\n").unwrap();
        assert_eq!(Some(&secret), Secret::new(b"0123456789abcdef").as_ref());
        let proof = secret.proof("dialer", &[b"a", b"b"]);
        assert!(secret.is_proof("dialer", &[b"a", b"b"], &proof));
        assert!(!secret.is_proof("acceptor", &[b"a", b"b"], &proof));
        assert!(!secret.is_proof("dialer", &[b"a", b"c"], &proof));
        assert!(!secret.is_proof("dialer", &[b"a", b"b"], &proof[..31]));
        let other = Secret::new(b"0123456789abcdeX").unwrap();
        assert!(!other.is_proof("dialer", &[b"a", b"b"], &proof));
        assert!(Secret::new(b"too short").is_none());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
