//! Finds the end of each request in the bytes that a connection reads. actix then gets one request
//! at a time and nothing after the request, so that an answer which actix makes by itself never
//! becomes a second answer to the same request. Source: RFC 9112, sections 2.2, 6.3 and 7.1. The
//! connection calls this module, which does no I/O.

/// Bytes kept of the beginning of a line: a header's name and a length.
const LINE_BYTES: usize = 48;

/// The header line which says that a request has no body.
pub(in crate::http) const NO_BODY: &[u8] = b"content-length: 0\r\n";

/// The framing of the body, as the head announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Length(u64),
    /// `Transfer-Encoding`, or an invalid or repeated `Content-Length`.
    Other,
}

/// The head of a request, as far as the head has arrived.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Head {
    /// The beginning of the arriving line; its first `kept` bytes are filled.
    line: [u8; LINE_BYTES],
    kept: usize,
    /// True if the line so far has only carriage returns.
    is_blank: bool,
    /// The last eight bytes of the request line, without carriage returns.
    last: u64,
    /// True for the request line of an HTTP/1.0 POST; `None` until the line is complete.
    is_old_post: Option<bool>,
    body: Said,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            line: [0; LINE_BYTES],
            kept: 0,
            is_blank: true,
            last: 0,
            is_old_post: None,
            body: Said::Nothing,
        }
    }
}

impl Head {
    /// Takes the next bytes. Returns the bounds of the blank line that ends the head, if `bytes`
    /// contains this line. Blank lines before the request line do not end the head.
    pub(in crate::http) fn take(&mut self, bytes: &[u8]) -> Option<(usize, usize)> {
        let mut begins = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            if self.line(bytes.get(begins..end).unwrap_or_default()) {
                return Some((begins, end + 1));
            }
            begins = end + 1;
        }
        self.grow(bytes.get(begins..).unwrap_or_default());
        None
    }

    /// Returns the `Content-Length` of a complete head; 0 for a chunked body.
    pub(in crate::http) fn body_len(&self) -> u64 {
        if let Said::Length(length) = self.body { length } else { 0 }
    }

    /// True if this is the head of an HTTP/1.0 POST that announces no body so far. Such a request
    /// has no body (RFC 9112, 6.3), but actix refuses the request.
    pub(in crate::http) fn lacks_length(&self) -> bool {
        self.is_old_post == Some(true) && self.body == Said::Nothing
    }

    /// True if the arriving line may be the last line of the head.
    pub(in crate::http) fn is_at_blank_line(&self) -> bool {
        self.is_old_post.is_some() && self.is_blank
    }

    /// Takes a part of a line, without the end of the line.
    fn grow(&mut self, piece: &[u8]) {
        let room = self.line.iter_mut().skip(self.kept);
        self.kept += room.zip(piece).map(|(place, byte)| *place = *byte).count();
        self.is_blank = self.is_blank && is_blank(piece);
        self.see_end(piece);
    }

    /// Takes the last part of a line. Returns true if the head ends with this line.
    fn line(&mut self, piece: &[u8]) -> bool {
        if self.kept == 0 {
            self.see_end(piece);
            return self.whole_line(piece, is_blank(piece));
        }
        self.grow(piece);
        let (line, kept, is_blank) = (self.line, std::mem::take(&mut self.kept), self.is_blank);
        self.is_blank = true;
        self.whole_line(line.get(..kept).unwrap_or_default(), is_blank)
    }

    fn see_end(&mut self, piece: &[u8]) {
        if self.is_old_post.is_none() {
            let behind = piece.len().saturating_sub(size_of::<u64>() + 1);
            for byte in piece.iter().skip(behind).filter(|byte| **byte != b'\r') {
                self.last = self.last << 8 | u64::from(*byte);
            }
        }
    }

    /// Takes a complete line, or only the beginning of a long line. Returns true if the head ends
    /// with this line.
    fn whole_line(&mut self, line: &[u8], is_blank: bool) -> bool {
        if is_blank {
            return self.is_old_post.is_some();
        }
        if self.is_old_post.is_none() {
            self.is_old_post =
                Some(line.starts_with(b"POST ") && self.last == u64::from_be_bytes(*b"HTTP/1.0"));
        } else if let (Some(b'c' | b'C' | b't' | b'T'), Some(colon)) =
            (line.first(), memchr::memchr(b':', line))
        {
            let (name, value) = line.split_at(colon);
            if name.eq_ignore_ascii_case(b"transfer-encoding") {
                self.body = Said::Other;
            } else if name.eq_ignore_ascii_case(b"content-length") {
                let value = value.get(1..).and_then(|value| str::from_utf8(value).ok());
                let length = value.and_then(|value| value.trim().parse().ok());
                self.body =
                    length.filter(|_| self.body == Said::Nothing).map_or(Said::Other, Said::Length);
            }
        }
        false
    }
}

fn is_blank(piece: &[u8]) -> bool {
    piece.iter().all(|byte| *byte == b'\r')
}

/// The state of a chunked body, as far as the body has arrived. Bytes that actix would refuse are
/// refused here.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::http) enum Chunks {
    /// The size of a chunk begins.
    #[default]
    Begin,
    Size(u64),
    SpaceBehindSize(u64),
    Extension(u64),
    SizeLineFeed(u64),
    Data(u64),
    DataReturn,
    DataLineFeed,
    /// A trailer or the last line begins.
    Trailers,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    Over,
}

/// A byte is not valid in its place; the number counts the valid bytes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Malformed(pub(in crate::http) usize);

impl Chunks {
    /// Takes the next bytes. Returns the number of bytes up to the end of the body, if `bytes`
    /// contains the end.
    ///
    /// # Errors
    /// [`Malformed`], if a byte cannot be part of a chunked body.
    pub(in crate::http) fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let Self::Data(left) = *self {
                let there = bytes.len() - at;
                let data = usize::try_from(left).unwrap_or(usize::MAX).min(there);
                at += data;
                *self = match left - data as u64 {
                    0 => Self::DataReturn,
                    left => Self::Data(left),
                };
                continue;
            }
            *self = self.next(*byte).ok_or(Malformed(at))?;
            at += 1;
            if matches!(self, Self::Over) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Returns the next state, or `None` if `byte` is not valid in this state.
    fn next(self, byte: u8) -> Option<Self> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        Some(match (self, byte) {
            (Self::Begin, _) => Self::Size(digit?),
            (Self::Size(size) | Self::SpaceBehindSize(size), b' ' | b'\t') => {
                Self::SpaceBehindSize(size)
            }
            (Self::Size(size) | Self::SpaceBehindSize(size), b';') => Self::Extension(size),
            (Self::Size(size) | Self::SpaceBehindSize(size) | Self::Extension(size), b'\r') => {
                Self::SizeLineFeed(size)
            }
            (Self::Size(size), _) => Self::Size(size.checked_mul(16)?.checked_add(digit?)?),
            (Self::Extension(size), _) if byte == b'\t' || !byte.is_ascii_control() => {
                Self::Extension(size)
            }
            (Self::SizeLineFeed(0) | Self::TrailerLineFeed, b'\n') => Self::Trailers,
            (Self::SizeLineFeed(size), b'\n') => Self::Data(size),
            (Self::DataReturn, b'\r') => Self::DataLineFeed,
            (Self::DataLineFeed, b'\n') => Self::Begin,
            (Self::Trailers, b'\r') => Self::LastLineFeed,
            (Self::Trailer, b'\r') => Self::TrailerLineFeed,
            (Self::Trailers | Self::Trailer, _) => Self::Trailer,
            (Self::LastLineFeed, b'\n') => Self::Over,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_heads_are_found_in_any_pieces() {
        for (text, begins) in [
            ("GET / HTTP/1.1\r\nA: b\r\n\r\n", 22),
            ("GET / HTTP/1.1\nA: b\n\n", 20),
            ("GET / HTTP/1.1\r\nA: b\r\n\n", 22),
            ("\r\n\n\r\nGET / HTTP/1.1\r\n\r\n", 21),
        ] {
            assert_eq!(
                Head::default().take(text.as_bytes()),
                Some((begins, text.len())),
                "{text:?}"
            );
            for cut in 0..text.len() {
                let mut head = Head::default();
                let (first, second) = text.as_bytes().split_at(cut);
                assert_eq!(head.take(first), None, "{text:?} at {cut}");
                assert_eq!(
                    head.take(second),
                    Some((begins.saturating_sub(cut), second.len())),
                    "{text:?} at {cut}"
                );
            }
        }
    }

    #[test]
    fn what_a_head_says_of_its_body_is_found_in_any_pieces() {
        let long = "x".repeat(200);
        for (text, body_len, lacks_length) in [
            ("POST / HTTP/1.0\r\n\r\n", 0, true),
            ("POST / HTTP/1.0\r\nHost: x\r\nX-Content-Length: 1\r\n\r\n", 0, true),
            (&format!("POST /{long} HTTP/1.0\r\nX: {long}\r\n\r\n"), 0, true),
            ("POST / HTTP/1.0\r\ncontent-LENGTH:17 \r\n\r\n", 17, false),
            ("POST / HTTP/1.0\r\nContent-Length: x\r\n\r\n", 0, false),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 0, false),
            ("POST / HTTP/1.1\r\nHost: x\r\n\r\n", 0, false),
            ("GET / HTTP/1.0\r\n\r\n", 0, false),
            (
                "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                0,
                false,
            ),
            (&format!("POST / HTTP/1.1\r\nX: {long}\r\nContent-Length: 5\r\n\r\n"), 5, false),
        ] {
            for cut in 0..text.len() {
                let mut head = Head::default();
                let (first, second) = text.as_bytes().split_at(cut);
                assert_eq!(head.take(first), None);
                assert!(head.take(second).is_some());
                assert_eq!(
                    (head.body_len(), head.lacks_length()),
                    (body_len, lacks_length),
                    "{text:?} at {cut}"
                );
            }
        }
    }

    #[test]
    fn ends_of_chunked_bodies_are_found_in_any_pieces_and_never_too_late() {
        for text in [
            "0\r\n\r\n",
            "4\r\n\r\n\r\n\r\n0\r\n\r\n",
            "1a ;a=\"b\"\r\nabcdefghijklmnopqrstuvwxyz\r\n000\r\nA: b\r\nC: d\r\n\r\n",
        ] {
            for cut in 0..text.len() {
                let mut chunks = Chunks::default();
                let (first, second) = text.as_bytes().split_at(cut);
                assert_eq!(chunks.take(first), Ok(None), "{text:?} at {cut}");
                let second = [second, b"GET / HTTP/1.1\r\n\r\n"].concat();
                assert_eq!(chunks.take(&second), Ok(Some(text.len() - cut)), "{text:?} at {cut}");
            }
        }
        for (text, right) in [
            ("\r\n", 0),
            ("x", 0),
            (" 1\r\n", 0),
            ("1\n", 1),
            ("1 2\r\n", 2),
            ("1;\u{1}\r\n", 2),
            ("1\r\nab", 4),
            ("1\r\na\n", 4),
            ("1\r\na\r\r", 5),
            ("0\r\n\r\r", 4),
            ("0\r\nA: b\r\r", 8),
            ("fffffffffffffffff\r\n", 16),
        ] {
            assert_eq!(Chunks::default().take(text.as_bytes()), Err(Malformed(right)), "{text:?}");
        }
    }
}
