//! Request bodies in gzip (RFC 1952). Inflating stops at a limit, so that a small body cannot fill
//! the memory. `body` calls this module when the whole body has arrived.

use std::fmt;
use std::io::{BufRead, Read as _};

use actix_web::http::header::{CONTENT_ENCODING, HeaderMap};
use actix_web::web::{self, Buf as _};
use flate2::bufread::GzDecoder;

use crate::base::library_errors::compression_fault;
use crate::http::error::{Code, Problem};

/// Bytes inflated before other tasks get their turn: some tenths of a millisecond of a worker's
/// time.
const STEP_BYTES: usize = 64 << 10;
/// The name of an inflated body in problems.
pub(in crate::http) const INFLATED: &str = "the body, decompressed,";
/// Maximum number of members (RFC 1952, 2.2) of a body; even an empty member takes time.
const MEMBERS_MAX: usize = 1_000;

/// The encoding of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    /// Reads `Content-Encoding` (RFC 9110, 8.4): gzip once, or nothing.
    ///
    /// # Errors
    /// If the header names another coding, or gzip more than once.
    pub(in crate::http) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut coding = Self::Identity;
        for value in headers.get_all(CONTENT_ENCODING) {
            for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let is = |name: &str| token.eq_ignore_ascii_case(name.as_bytes());
                match coding {
                    _ if token.is_empty() || is("identity") => {}
                    Self::Identity if is("gzip") || is("x-gzip") => coding = Self::Gzip,
                    Self::Identity | Self::Gzip => {
                        return Err(Problem::unsupported_coding(token));
                    }
                }
            }
        }
        Ok(coding)
    }

    /// Returns the maximum number of bytes on the wire for a body of `bytes_max` bytes. Data that
    /// cannot be compressed is stored in blocks with some bytes of their own, and the header may
    /// contain a file name.
    pub(in crate::http) fn wire_bytes_max(self, bytes_max: usize) -> usize {
        match self {
            Self::Identity => bytes_max,
            Self::Gzip => bytes_max.saturating_add(bytes_max / 512).saturating_add(1_024),
        }
    }
}

/// Inflates the body. Before the output grows, `need` is called with the bytes that input and
/// output will take. Between steps, other tasks get their turn.
///
/// # Errors
/// If the body becomes too large, `need` refuses, or the body is not complete and valid gzip data.
pub(in crate::http) async fn inflate(
    body: web::Bytes,
    bytes_max: usize,
    mut need: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<web::Bytes, Problem> {
    if body.is_empty() {
        return Ok(body);
    }
    let wire_bytes = body.len();
    let mut bytes = Vec::new();
    let mut rest = body.reader();
    for _ in 0..MEMBERS_MAX {
        let mut member = GzDecoder::new(rest);
        loop {
            need(wire_bytes + (bytes.len() + STEP_BYTES).min(bytes_max))?;
            if step(&mut member, &mut bytes, bytes_max)? {
                break;
            }
            tokio::task::yield_now().await;
        }
        rest = member.into_inner();
        if !rest.get_ref().has_remaining() {
            return Ok(bytes.into());
        }
        tokio::task::yield_now().await;
    }
    Err(not_gzip(&format_args!("it has more than {MEMBERS_MAX} gzip members")))
}

/// Inflates the next part of a member. Returns true when the member is complete.
fn step(
    member: &mut GzDecoder<impl BufRead>,
    bytes: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<bool, Problem> {
    // A single byte above the limit shows that the body is too large.
    let most = STEP_BYTES.min(bytes_max.saturating_sub(bytes.len()) + 1);
    let read = member
        .take(most as u64)
        .read_to_end(bytes)
        .map_err(|error| not_gzip(&compression_fault(&error)))?;
    if bytes.len() > bytes_max {
        return Err(Problem::too_large(INFLATED, None, bytes_max));
    }
    Ok(read < most)
}

fn not_gzip(why: &dyn fmt::Display) -> Problem {
    Problem::new(
        Code::InvalidRequest,
        format!(
            "the header Content-Encoding says gzip, but the body is not complete gzip data: {why}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use actix_web::http::header::HeaderValue;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(body: &[u8], bytes_max: usize) -> Result<web::Bytes, Problem> {
        let inflating = inflate(web::Bytes::copy_from_slice(body), bytes_max, |_bytes| Ok(()));
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(inflating)
    }

    fn code(body: &[u8], bytes_max: usize) -> Code {
        inflated(body, bytes_max).unwrap_err().code()
    }

    /// Returns bytes that do not compress.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn what_was_compressed_comes_out_whatever_the_members() {
        let text = b"{\"type\": \"a\"}".repeat(1_000);
        for level in [0, 1, 9] {
            assert_eq!(inflated(&gzip(&text, level), text.len()).unwrap(), text, "{level}");
        }
        let members = [gzip(b"{\"a\":", 6), gzip(b"", 6), gzip(b"1}", 6)].concat();
        assert_eq!(inflated(&members, 7).unwrap(), "{\"a\":1}".as_bytes());
        assert_eq!(code(&members, 6), Code::PayloadTooLarge);
    }

    #[test]
    fn it_ends_at_its_bound_and_not_before() {
        let zeros = gzip(&vec![0; 4 << 20], 9);
        assert!(zeros.len() < 8 << 10);
        assert_eq!(code(&zeros, (4 << 20) - 1), Code::PayloadTooLarge);
        assert_eq!(inflated(&zeros, 4 << 20).unwrap().len(), 4 << 20);
        // Bytes that do not compress stay within the limit for the wire, too.
        for len in [0, 1, 1 << 10, 256 << 10, 1 << 20] {
            for level in [0, 1, 6, 9] {
                let wire = gzip(&noise(len), level).len();
                assert!(wire <= Coding::Gzip.wire_bytes_max(len), "{len} at {level}: {wire}");
            }
        }
    }

    #[test]
    fn memory_is_asked_for_before_it_is_taken_and_members_are_counted() {
        let asked = std::cell::RefCell::new(Vec::new());
        let zeros = gzip(&vec![0; 300 << 10], 9);
        let wire = zeros.len();
        let need = |bytes: usize| {
            asked.borrow_mut().push(bytes - wire);
            if bytes - wire <= 256 << 10 {
                Ok(())
            } else {
                Err(Problem::new(Code::Overloaded, "no memory"))
            }
        };
        let inflating = inflate(zeros.into(), 1 << 20, need);
        let refused = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(inflating)
            .unwrap_err();
        assert_eq!(refused.code(), Code::Overloaded);
        assert_eq!(*asked.borrow(), [64, 128, 192, 256, 320].map(|kib: usize| kib << 10));
        let empty = gzip(b"", 6);
        assert_eq!(inflated(&empty.repeat(MEMBERS_MAX), 10).unwrap(), "".as_bytes());
        assert_eq!(code(&empty.repeat(MEMBERS_MAX + 1), 10), Code::InvalidRequest);
    }

    #[test]
    fn what_is_cut_changed_or_followed_by_something_is_refused() {
        let whole = [gzip(b"{\"type\":\"a\",", 6), gzip(b"\"payload\":1}", 6)].concat();
        let first = gzip(b"{\"type\":\"a\",", 6).len();
        for len in (1..whole.len()).filter(|len| *len != first) {
            assert_eq!(code(&whole[..len], 1_000), Code::InvalidRequest, "cut after {len}");
        }
        for garbage in [b"x".as_slice(), &[0; 512], b"\x1f", b"\x1f\x8b", b"{}", b"\n"] {
            let body = [&whole, garbage].concat();
            assert_eq!(code(&body, 1_000), Code::InvalidRequest, "{garbage:?}");
        }
        for place in [0, 1, 2, first - 1, first - 5, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert_eq!(code(&changed, 1_000), Code::InvalidRequest, "changed at {place}");
        }
        assert_eq!(code(b"{\"type\":\"a\"}", 1_000), Code::InvalidRequest, "not compressed at all");
    }

    #[test]
    fn gzip_is_the_one_coding_that_is_understood() {
        for (values, coding) in [
            ([""].as_slice(), Some(Coding::Identity)),
            (&["identity"], Some(Coding::Identity)),
            (&["gzip"], Some(Coding::Gzip)),
            (&["GZip"], Some(Coding::Gzip)),
            (&["x-gzip"], Some(Coding::Gzip)),
            (&["identity, gzip"], Some(Coding::Gzip)),
            (&["identity", " gzip ,"], Some(Coding::Gzip)),
            (&["gzip, gzip"], None),
            (&["gzip", "gzip"], None),
            (&["deflate"], None),
            (&["br"], None),
            (&["gzip, br"], None),
            (&["gz\u{e9}p"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers
                    .append(CONTENT_ENCODING, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(Coding::of(&headers).ok(), coding, "{values:?}");
        }
        assert_eq!(Coding::of(&HeaderMap::new()).unwrap(), Coding::Identity);
    }
}
