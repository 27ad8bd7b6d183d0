//! Seals small secrets, so that the files without the key reveal nothing: XChaCha20-Poly1305 (RFC
//! 8439 with the extended nonce of draft-irtf-cfrg-xchacha), with a random nonce before each
//! secret.

use std::fmt;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use super::random;

const NONCE_BYTES: usize = 24;

/// The cipher with its key.
pub struct Vault(XChaCha20Poly1305);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    /// Creates a vault with this key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// Seals a secret. `whose` is not stored and must be the same at opening. `None` if the secret
    /// is longer than 256 GiB.
    pub fn seal(&self, secret: &[u8], whose: &[u8]) -> Option<Vec<u8>> {
        let nonce = random::bytes::<NONCE_BYTES>();
        let sealed =
            self.0.encrypt(&XNonce::from(nonce), Payload { msg: secret, aad: whose }).ok()?;
        Some([nonce.as_slice(), &sealed].concat())
    }

    /// Opens a secret that was sealed with this key and the same `whose`. `None` if key or `whose`
    /// differ, or the bytes have changed.
    pub fn open(&self, sealed: &[u8], whose: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: whose }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_for_the_same_one_and_no_other() {
        let vault = Vault::new(&[1; 32]);
        let sealed = vault.seal(b"secret", b"ep_1").unwrap();
        assert_eq!(vault.open(&sealed, b"ep_1").as_deref(), Some(b"secret".as_slice()));
        assert_ne!(vault.seal(b"secret", b"ep_1").unwrap(), sealed, "a nonce of its own each time");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(vault.open(&sealed, b"ep_2"), None);
        assert_eq!(Vault::new(&[2; 32]).open(&sealed, b"ep_1"), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(vault.open(&changed, b"ep_1"), None, "byte {at}");
            assert_eq!(vault.open(&sealed[..at], b"ep_1"), None, "{at} bytes");
        }
    }
}
