//! Standard Webhooks signatures, symmetric (`v1`): <https://www.standardwebhooks.com>, "Signature scheme". `sign` is
//! called by the sender; `verify` is the receiving side, for the demo receiver and for tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;

/// How far the sender's clock may be from the receiver's, in seconds: what the reference libraries take.
pub const TOLERANCE_S: u64 = 5 * 60;

/// The value of `webhook-signature`: `v1,<base64 of HMAC-SHA256 over "{id}.{timestamp}.{body}">` for each key, separated
/// by spaces. Two keys while a secret is being rotated.
pub fn sign(keys: &[&[u8]], id: &str, timestamp_s: u64, body: &[u8]) -> String {
    let timestamp = timestamp_s.to_string();
    let signatures: Vec<String> = keys.iter().map(|key| sign_one(key, id, &timestamp, body)).collect();
    signatures.join(" ")
}

/// A request as a receiver sees it: three header values and the body, all exactly as they came.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `webhook-id`.
    pub id: &'a str,
    /// `webhook-timestamp`: seconds since 1970.
    pub timestamp: &'a str,
    /// `webhook-signature`.
    pub signature: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// Why a request is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// The timestamp is not a number of seconds.
    BadTimestamp,
    /// Signed too long ago: perhaps recorded and sent again.
    TooOld,
    /// Signed too far in the future.
    TooNew,
    /// No signature is the one this key gives.
    NoMatch,
}

impl std::fmt::Display for Untrusted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BadTimestamp => "webhook-timestamp is not a number of seconds",
            Self::TooOld => "webhook-timestamp is too old",
            Self::TooNew => "webhook-timestamp is in the future",
            Self::NoMatch => "no signature in webhook-signature matches",
        })
    }
}

impl std::error::Error for Untrusted {}

/// Believes a request if one of its `v1` signatures is the one this key gives and its timestamp is at most `tolerance_s`
/// away from `now_s`. How long it takes does not depend on how much of a signature is right.
///
/// # Errors
/// Why it is not believed.
pub fn verify(key: &[u8], signed: &Signed<'_>, now_s: u64, tolerance_s: u64) -> Result<(), Untrusted> {
    // `parse` alone would take a leading `+`.
    let digits = signed.timestamp.bytes().all(|c| c.is_ascii_digit());
    let timestamp_s: u64 = signed.timestamp.parse().map_err(|_not_a_number| Untrusted::BadTimestamp)?;
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
    let found = signed
        .signature
        .split(' ')
        .fold(subtle::Choice::from(0), |found, given| found | given.as_bytes().ct_eq(expected.as_bytes()));
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
