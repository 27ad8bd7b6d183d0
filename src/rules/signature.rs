//! Standard Webhooks signatures, symmetric (`v1`): <https://www.standardwebhooks.com>, "Signature
//! scheme". The sender calls `sign`; the demo receiver and tests call `verify`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;

/// Maximum difference between the sender's and the receiver's clock, in seconds; the reference
/// libraries have the same limit.
pub const TOLERANCE_S: u64 = 5 * 60;

/// Returns the value of `webhook-signature`: `v1,<base64 of HMAC-SHA256 over
/// "{id}.{timestamp}.{body}">` for each key, separated by spaces. There are two keys while a secret
/// is rotated.
pub fn sign(keys: &[&[u8]], id: &str, timestamp_s: u64, body: &[u8]) -> String {
    let timestamp = timestamp_s.to_string();
    let signatures: Vec<String> =
        keys.iter().map(|key| sign_one(key, id, &timestamp, body)).collect();
    signatures.join(" ")
}

/// A request as received: three header values and the body, byte for byte.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The value of the `webhook-id` header.
    pub id: &'a str,
    /// The value of `webhook-timestamp`: seconds since 1970.
    pub timestamp: &'a str,
    /// The value of the `webhook-signature` header.
    pub signature: &'a str,
    /// The body, as received.
    pub body: &'a [u8],
}

/// Why a request is not authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// The timestamp is not a number of seconds.
    #[error("webhook-timestamp is not a number of seconds")]
    BadTimestamp,
    /// The timestamp is too old; the request may be a recorded copy.
    #[error("webhook-timestamp is too old")]
    TooOld,
    /// The timestamp is too far in the future.
    #[error("webhook-timestamp is in the future")]
    TooNew,
    /// No signature of the request belongs to this key.
    #[error("no signature in webhook-signature matches")]
    NoMatch,
}

/// Accepts a request if one of its `v1` signatures belongs to this key and its timestamp is at most
/// `tolerance_s` away from `now_s`. The comparison takes the same time for all signatures of a
/// length.
///
/// # Errors
/// Why the request is not authentic.
pub fn verify(
    key: &[u8],
    signed: &Signed<'_>,
    now_s: u64,
    tolerance_s: u64,
) -> Result<(), Untrusted> {
    // `parse` alone would accept a leading `+`.
    let digits = signed.timestamp.bytes().all(|c| c.is_ascii_digit());
    let timestamp_s: u64 =
        signed.timestamp.parse().map_err(|_not_a_number| Untrusted::BadTimestamp)?;
    if !digits {
        return Err(Untrusted::BadTimestamp);
    }
    if now_s > timestamp_s.saturating_add(tolerance_s) {
        return Err(Untrusted::TooOld);
    }
    if timestamp_s > now_s.saturating_add(tolerance_s) {
        return Err(Untrusted::TooNew);
    }
    let expected = sign_one(key, signed.id, signed.timestamp, signed.body);
    let found = signed.signature.split(' ').fold(subtle::Choice::from(0), |found, given| {
        found | given.as_bytes().ct_eq(expected.as_bytes())
    });
    if bool::from(found) { Ok(()) } else { Err(Untrusted::NoMatch) }
}

fn sign_one(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104, section 3)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}
