//! HTTP/1.1 on a raw socket: writes bytes, reads a status. A usual HTTP client would take more of
//! the machine than the measured server.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HEADERS_MAX: usize = 64;
/// Maximum length of a message's head, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// One connection with one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The parts of an answer that the benchmark reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// True if the answer had a `Retry-After`.
    pub(super) retry_after: bool,
    /// True if the server closes the connection after this answer.
    pub(super) closes: bool,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(2 << 10) })
    }

    /// Sends a request and reads the complete answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((answer, length)) = parse_answer(&self.buffer)? else { continue };
            while self.buffer.len() < length {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            return Ok(answer);
        }
    }
}

/// Returns the answer and its total length; none while its head is incomplete.
fn parse_answer(bytes: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes).map_err(io::Error::other)? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return unfinished(bytes),
    };
    let status = response.code.unwrap_or_default();
    let retry_after = header(response.headers, "retry-after").is_some();
    let closes = header(response.headers, "connection")
        .is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    let length = content_length(response.headers)
        .ok_or_else(|| io::Error::other("an answer without a length"))?;
    Ok(Some((Answer { status, retry_after, closes }, head + length)))
}

/// Returns the total length of a request; none while its head is incomplete.
pub(super) fn parse_request(bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes).map_err(io::Error::other)? {
        httparse::Status::Complete(head) => {
            Ok(Some(head + content_length(request.headers).unwrap_or(0)))
        }
        httparse::Status::Partial => unfinished(bytes),
    }
}

fn unfinished<T>(bytes: &[u8]) -> io::Result<Option<T>> {
    if bytes.len() > HEAD_BYTES_MAX {
        Err(io::Error::other("a head without an end"))
    } else {
        Ok(None)
    }
}

fn header<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn content_length(headers: &[httparse::Header<'_>]) -> Option<usize> {
    std::str::from_utf8(header(headers, "content-length")?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_when_its_head_is_whole() {
        let text =
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nbusy";
        for end in 0..text.len() - 4 {
            assert_eq!(parse_answer(&text[..end]).unwrap(), None, "{end}");
        }
        let answer = Answer { status: 503, retry_after: true, closes: false };
        assert_eq!(parse_answer(&text[..text.len() - 4]).unwrap(), Some((answer, text.len())));
        let closing = b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n";
        let answer = Answer { status: 200, retry_after: false, closes: true };
        assert_eq!(parse_answer(closing).unwrap(), Some((answer, closing.len())));
        assert!(
            parse_answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err(),
            "without a length it would never end"
        );
        assert!(parse_answer(b"not HTTP at all\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_has_the_length_of_its_head_and_body() {
        let text = b"POST /hook HTTP/1.1\r\nContent-Length: 3\r\n\r\n{}\n";
        assert_eq!(parse_request(&text[..20]).unwrap(), None);
        assert_eq!(parse_request(text).unwrap(), Some(text.len()));
    }
}
