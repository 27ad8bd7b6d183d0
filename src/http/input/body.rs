//! Request bodies: bounded in size and time, with a supported content type.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use actix_web::{HttpRequest, dev, web};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use crate::http::error::{Code, Problem};
use crate::http::input::body_memory::Reserved;
use crate::http::input::fields::{no_body, text_of};
use crate::http::input::gzip::{self, Coding};

/// An unread body up to this size is read and discarded, so the connection can be kept.
const DRAIN_BYTES_MAX: usize = 64 << 10;
/// Maximum time to read and discard an unread body.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// The maximum size of a body, and the time within which the whole body must arrive.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct BodyLimit {
    pub(in crate::http) bytes_max: usize,
    pub(in crate::http) within: Duration,
}

/// A body takes memory in steps of this size as it comes, in bytes.
const MEMORY_STEP: usize = 64 << 10;

/// Maximum length of a wrong content type in an answer, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// A content type that the API accepts for a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Media {
    /// A body in triggerd's own form: `application/json`.
    Json,
    /// A CloudEvent in structured mode: `application/cloudevents+json`.
    CloudEvent,
    /// A batch of CloudEvents: `application/cloudevents-batch+json`.
    CloudEventBatch,
}

impl Media {
    /// Returns the body's content type, or `None` for any other. Parameters are ignored, including
    /// `charset` (RFC 8259, 11): JSON is UTF-8, and a body in another encoding is refused when
    /// parsed.
    pub(in crate::http) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(CONTENT_TYPE)?.as_bytes();
        essence(str::from_utf8(text.split(|byte| *byte == b';').next()?).ok()?.trim())
    }

    /// True for a structured CloudEvent or a batch in a format that is not supported, such as
    /// `application/cloudevents+avro`. Its `ce-` headers only repeat the body (HTTP binding 3.2.3).
    pub(in crate::http) fn is_other_cloud_event(headers: &HeaderMap) -> bool {
        let prefix = b"application/cloudevents";
        let text = headers.get(CONTENT_TYPE).map(|value| value.as_bytes().trim_ascii_start());
        let begin = text.and_then(|text| text.get(..prefix.len()));
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix)) && Self::of(headers).is_none()
    }

    /// Refuses a request whose content type is not `application/json`.
    pub(in crate::http) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
        if Self::of(headers) == Some(Self::Json) {
            Ok(())
        } else {
            Err(unsupported(headers, "application/json"))
        }
    }
}

/// Returns the text of a body whose members are all optional. An empty body is an empty object.
pub(in crate::http) fn optional_json<'a>(
    headers: &HeaderMap,
    body: &'a [u8],
) -> Result<&'a str, Problem> {
    if body.is_empty() {
        return Ok("{}");
    }
    Media::require_json(headers)?;
    text_of(body)
}

fn essence(text: &str) -> Option<Media> {
    let all = [
        ("application/json", Media::Json),
        ("application/cloudevents+json", Media::CloudEvent),
        ("application/cloudevents-batch+json", Media::CloudEventBatch),
    ];
    all.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, media)| media)
}

/// The problem for a body of an unwanted content type, or for a request without a body.
pub(in crate::http) fn unsupported(headers: &HeaderMap, wanted: &'static str) -> Problem {
    if !headers.contains_key(TRANSFER_ENCODING) && content_length(headers).unwrap_or(0) == 0 {
        return no_body();
    }
    let found = match headers.get(CONTENT_TYPE) {
        None => "it is missing".to_owned(),
        Some(value) => {
            let text = String::from_utf8_lossy(value.as_bytes());
            format!("it is {:?}", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
        }
    };
    let detail = format!("the header Content-Type must be {wanted}; {found}");
    Problem::new(Code::UnsupportedMediaType, detail)
}

/// Reads the whole body. The body takes memory as it comes, whatever length it announces: a client
/// that announces much and sends nothing takes nothing from others.
///
/// # Errors
/// Fails when the body exceeds a limit, ends early, has an unsupported encoding, or gets no memory.
pub(in crate::http) async fn read(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    limit: BodyLimit,
    reserved: &mut Reserved,
) -> Result<web::Bytes, Problem> {
    let headers = request.headers();
    let coding = Coding::of(headers)?;
    let wire_bytes_max = coding.wire_bytes_max(limit.bytes_max);
    let announced = content_length(headers);
    if announced.is_some_and(|length| length > wire_bytes_max) {
        return Err(match coding {
            Coding::Identity => Problem::too_large("the body", announced, limit.bytes_max),
            Coding::Gzip => Problem::too_large(gzip::INFLATED, None, limit.bytes_max),
        });
    }
    let given_up = reserved.given_up();
    let deadline = Instant::now() + limit.within;
    let late = |_elapsed| {
        Problem::new(
            Code::RequestTimeout,
            format!(
                "the body did not arrive within {} s ([server] body_timeout_seconds)",
                limit.within.as_secs()
            ),
        )
    };
    let collected = collect(payload, announced, (wire_bytes_max, limit.bytes_max), reserved);
    let body = tokio::select! {
        biased;
        collected = timeout_at(deadline, collected) => collected.map_err(late)??,
        problem = given_up => return Err(problem),
    };
    let body = match coding {
        Coding::Identity => body,
        Coding::Gzip => gzip::inflate(body, limit.bytes_max, |bytes| reserved.need(bytes)).await?,
    };
    reserved.complete()?;
    Ok(body)
}

pub(in crate::http) fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads at most `wire_bytes_max` bytes. The problem for a longer body names `bytes_max`, the limit
/// on the decoded body.
async fn collect(
    payload: &mut dev::Payload,
    announced: Option<usize>,
    (wire_bytes_max, bytes_max): (usize, usize),
    reserved: &mut Reserved,
) -> Result<web::Bytes, Problem> {
    let broken = |error| {
        let why = match error {
            PayloadError::Incomplete(_) | PayloadError::Io(_) => "the connection ended early",
            PayloadError::EncodingCorrupted => "its chunks are malformed (RFC 9112, 7.1)",
            PayloadError::Overflow => "the body is too long",
            PayloadError::UnknownLength => "the length is not known",
            _ => "the body cannot be read",
        };
        Problem::new(Code::InvalidRequest, format!("the body is incomplete: {why}"))
    };
    let Some(first) = payload.next().await else { return Ok(web::Bytes::new()) };
    let first = first.map_err(broken)?;
    // Most bodies come in a single piece, which needs no copy.
    if announced == Some(first.len()) {
        reserved.need(first.len())?;
        return Ok(first);
    }
    let length_max = announced.unwrap_or(wire_bytes_max);
    let mut body = web::BytesMut::with_capacity(length_max.min(MEMORY_STEP));
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        if body.len() + bytes.len() > wire_bytes_max {
            let what = if wire_bytes_max == bytes_max { "the body" } else { gzip::INFLATED };
            return Err(Problem::too_large(what, None, bytes_max));
        }
        let length = body.len() + bytes.len();
        reserved.need(length.next_multiple_of(MEMORY_STEP).min(length_max.max(length)))?;
        body.extend_from_slice(&bytes);
        piece = payload.next().await.transpose().map_err(broken)?;
    }
    Ok(body.freeze())
}

/// Reads and discards a small body that no handler has read.
pub(in crate::http) async fn drain(request: &HttpRequest, payload: &mut dev::Payload) {
    let may_be_small = match content_length(request.headers()) {
        Some(length) => (1..=DRAIN_BYTES_MAX).contains(&length),
        None => request.headers().contains_key(TRANSFER_ENCODING),
    };
    if may_be_small {
        let mut left = DRAIN_BYTES_MAX;
        let read_away = async {
            while let Some(Ok(piece)) = payload.next().await
                && piece.len() <= left
            {
                left -= piece.len();
            }
        };
        // The result is ignored: if bytes remain unread, the connection closes.
        drop(timeout_at(Instant::now() + DRAIN_WITHIN, read_away).await);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn content_types_are_known_whatever_their_parameters() {
        for (text, media) in [
            ("application/json", Some(Media::Json)),
            ("Application/JSON; charset=UTF-8", Some(Media::Json)),
            ("application/json;charset=\"utf-8\"; x=y", Some(Media::Json)),
            ("application/json; charset=latin1", Some(Media::Json)),
            ("application/json; charset=utf8", Some(Media::Json)),
            ("application/json;charset=us-ascii;charset=\"x;y\"", Some(Media::Json)),
            ("application/json ;", Some(Media::Json)),
            ("application/json; name=\u{e9}", Some(Media::Json)),
            ("application/cloudevents-batch+json; charset=utf8", Some(Media::CloudEventBatch)),
            ("application/json, text/plain", None),
            ("application/problem+json", None),
            ("application/cloudevents+json; charset=utf-8", Some(Media::CloudEvent)),
            ("application/cloudevents-batch+json", Some(Media::CloudEventBatch)),
            ("text/json", None),
            ("application/jsonp", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            assert_eq!(Media::of(&headers), media, "{text}");
        }
        assert_eq!(Media::of(&HeaderMap::new()), None);
    }
}
