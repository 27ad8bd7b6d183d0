//! Answers to heads that no route sees, because they cannot be read, are too large, or take too
//! long. actix answers such heads by itself, without a body. Callers get problem documents instead,
//! with a request id as always.

use std::net::SocketAddr;

use crate::base::random;
use crate::http::edge::audit;
use crate::http::error::{Code, Problem};

/// The header that marks an answer as ours: each of our answers has this header in its head.
const REQUEST_ID: &str = "x-request-id: ";

/// Returns the bytes to write instead of `bytes`, if `bytes` begins an answer that actix made by
/// itself.
pub(in crate::http) fn instead_of(bytes: &[u8], peer: Option<SocketAddr>) -> Option<Vec<u8>> {
    let status = bytes.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5))?;
    let code = match status {
        b"408" => Code::RequestTimeout,
        b"431" => Code::HeadTooLarge,
        [b'4', ..] => Code::InvalidRequest,
        [b'5', ..] => Code::Internal,
        _ => return None,
    };
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(bytes.len());
    let head = bytes.get(..head_end).unwrap_or_default();
    let is_ours = head.windows(REQUEST_ID.len()).any(|window| window == REQUEST_ID.as_bytes());
    (!is_ours).then(|| refusal(code, peer))
}

/// Makes a complete answer, after which the connection is closed, and logs its request id.
pub(in crate::http) fn refusal(code: Code, peer: Option<SocketAddr>) -> Vec<u8> {
    let detail = match code {
        Code::RequestTimeout => {
            "the request line and the headers did not arrive in time ([server] \
             client_timeout_seconds); the connection is closed"
        }
        Code::HeadTooLarge => {
            "the request line and the headers have more than 64 KiB, or there are more than 96 \
             headers"
        }
        Code::Overloaded => {
            "too many requests with large headers are arriving; send the request again"
        }
        Code::Internal => "the request failed inside the server; its log has the cause",
        _ => "the request line or the headers are not valid HTTP/1.1; the connection is closed",
    };
    let request_id = format!("{:016x}-0", u64::from_be_bytes(random::bytes()));
    audit::refused_unread(&request_id, code, peer);
    let problem = Problem::new(code, detail);
    let body = serde_json::to_vec(&problem.document(Some(&request_id))).unwrap_or_default();
    let (status, length) = (code.status(), body.len());
    let reason = actix_web::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    // A refusal that depends on the load says when to come again, as such answers of a route do.
    let retry_after = if code == Code::Overloaded { "retry-after: 1\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: {}\r\ncontent-length: \
         {length}\r\n{REQUEST_ID}{request_id}\r\n{retry_after}\
         x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n\r\n",
        reason.unwrap_or_default(),
        crate::http::error::PROBLEM_JSON,
    );
    [head.into_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_head_says_when_to_come_again_only_if_the_load_is_the_reason() {
        for (code, is_of_load) in [
            (Code::Overloaded, true),
            (Code::HeadTooLarge, false),
            (Code::RequestTimeout, false),
            (Code::InvalidRequest, false),
        ] {
            let answer = String::from_utf8(refusal(code, None)).unwrap();
            assert_eq!(answer.contains("\r\nretry-after: 1\r\n"), is_of_load, "{answer}");
            assert_eq!(instead_of(answer.as_bytes(), None), None, "it is ours: {answer}");
        }
    }
}
