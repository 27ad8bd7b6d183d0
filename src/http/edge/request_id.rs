//! The id of a request, for its answer and for the log.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::base::random;

pub(in crate::http) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length of a caller's request id, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Maximum length of a new request id: two numbers in hexadecimal digits, and a hyphen.
const NEW_ID_BYTES_MAX: usize = 33;

/// Makes ids for requests without an id: unique in this process, and most likely beyond.
#[derive(Debug)]
pub(in crate::http) struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { process: u64::from_be_bytes(random::bytes()), next: AtomicU64::new(1) }
    }
}

impl RequestIds {
    /// Returns the caller's id if well-formed, otherwise a new id.
    pub(in crate::http) fn of(&self, headers: &HeaderMap) -> String {
        match headers.get(REQUEST_ID).and_then(|value| sane(value, REQUEST_ID_BYTES_MAX)) {
            Some(given) => given.to_owned(),
            None => self.next(),
        }
    }

    /// Returns a new id, in a text that never grows: every request without an id needs one.
    fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = String::with_capacity(NEW_ID_BYTES_MAX);
        write!(id, "{:016x}-{number:x}", self.process).ok(); // does not fail
        id
    }
}

/// Returns the text of a header if safe to show again: short, and without special characters.
pub(in crate::http) fn sane(value: &HeaderValue, bytes_max: usize) -> Option<&str> {
    let sane = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    let bytes = value.as_bytes();
    let is_sane = (1..=bytes_max).contains(&bytes.len()) && bytes.iter().all(|c| sane(*c));
    value.to_str().ok().filter(|_| is_sane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_another_one_is_replaced() {
        let ids = RequestIds::default();
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            ids.of(&headers)
        };
        let long = "x".repeat(128);
        for sane in ["a", "0190-ab.c_D", &long] {
            assert_eq!(of(sane), sane);
        }
        let too_long = "x".repeat(129);
        for odd in ["", "a b", "a\"b", "a/b", "ä", &too_long] {
            assert_ne!(of(odd), odd);
        }
        assert_ne!(ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
    }
}
