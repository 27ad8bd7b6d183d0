//! A receiver's answer as bytes: parses its head as curl does, and finds the end of its body.
//! Called by the exchange; knows nothing of connections.
//!
//! Receivers are of every age, and scripts write answers too. None of these changes a 200: a line
//! with an invalid header name (`PHP Warning: …`), a folded line, a space before a colon, a control
//! character, a line without a carriage return. Of a head above the limit, the first line is
//! enough. As with curl, a head is invalid if it does not begin with `HTTP/`, if a line has no
//! colon, or if there is a zero byte. The framing of the body does not matter for the verdict: the
//! receiver has answered with its head.

use std::io;

use crate::model::delivery::KEPT_HEADERS_MAX;

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;

/// Maximum that is read of a head, in bytes. Of a longer head, the status and the complete headers
/// count.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;
/// Maximum size of all interim heads (1xx) before the answer, in bytes. They are not kept.
pub(super) const INTERIM_BYTES_MAX: usize = 64 << 10;

/// Headers of a refusal that are kept. They help to find the request in the receiver's logs, and
/// contain no secrets.
pub(super) const KEPT_HEADERS: [&str; KEPT_HEADERS_MAX] = [
    "allow",
    "cf-ray",
    "content-length",
    "content-type",
    "date",
    "location",
    "request-id",
    "retry-after",
    "server",
    "traceparent",
    "via",
    "www-authenticate",
    "x-amzn-requestid",
    "x-cache",
    "x-correlation-id",
    "x-request-id",
];
/// Headers that are also read: for the end of the body, and for the reuse of the connection.
const CONNECTION: &str = "connection";
const CONTENT_LENGTH: &str = "content-length";
const TRANSFER_ENCODING: &str = "transfer-encoding";

const BEGINNING: &[u8] = b"HTTP/";

/// Why an established connection gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Writing or reading failed.
    #[error("the connection was lost")]
    Io(#[source] io::Error),
    /// The connection was closed before an answer.
    #[error("the connection was closed before an answer came")]
    Closed,
    /// The first line did not end within the limit.
    #[error("the first line of the answer is too long")]
    TooLong,
    /// Only interim heads (1xx) arrived within the limit.
    #[error("the receiver sent only interim answers (1xx)")]
    OnlyInterim,
    /// The answer is not HTTP; holds the reason.
    #[error("{0}")]
    Malformed(&'static str),
}

/// The head of an answer, parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The status code, from 100 to 999.
    pub(super) status: u16,
    /// Known headers in the order of arrival, with names in lower case.
    headers: Vec<(&'static str, Vec<u8>)>,
    /// True for HTTP/1.1 without any irregularity in the head.
    is_plain: bool,
    /// True if the head was longer than the limit.
    is_cut: bool,
}

impl Head {
    /// Returns the first header with this name.
    pub(super) fn header<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| value.as_slice())
    }

    /// True if another answer can follow this one's body. The end of the body must be beyond doubt.
    pub(super) fn keeps_connection(&self) -> bool {
        let mut options =
            self.values(CONNECTION).flat_map(|value| value.split(|byte| *byte == b','));
        self.is_plain && !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    }

    /// Marks the connection as not reusable.
    pub(super) fn ends_connection(&mut self) {
        self.is_plain = false;
    }

    /// Parses the complete lines of a head.
    fn parse(bytes: &[u8]) -> Result<Self, Broken> {
        let mut lines = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .filter_map(|line| line.strip_suffix(b"\n"));
        let first = lines.next().unwrap_or_default();
        let (is_new, status) = status_of(first)
            .ok_or(Broken::Malformed("the answer does not begin with an HTTP status"))?;
        let mut head = Self {
            status,
            headers: Vec::new(),
            is_plain: is_new && first.ends_with(b"\r"),
            is_cut: false,
        };
        if first.contains(&0) {
            return Err(Broken::Malformed("the head of the answer contains a zero byte"));
        }
        // `None` before the first header; then true if the previous header was kept.
        let mut last_kept = None;
        for line in lines.take_while(|line| !ends_head(line)) {
            head.is_plain &= line.ends_with(b"\r");
            last_kept = Some(head.take_line(line, last_kept)?);
        }
        Ok(head)
    }

    fn take_line(&mut self, line: &[u8], last_kept: Option<bool>) -> Result<bool, Broken> {
        if line.contains(&0) {
            return Err(Broken::Malformed("the head of the answer contains a zero byte"));
        }
        let is_folded = line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        if let (true, Some(is_kept)) = (is_folded, last_kept) {
            self.is_plain = false;
            if let Some((_, value)) = self.headers.last_mut().filter(|_| is_kept) {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            return Ok(is_kept);
        }
        let colon = line.iter().position(|byte| *byte == b':').filter(|_| !is_folded);
        let colon = colon.ok_or(Broken::Malformed("a line of the answer's head has no colon"))?;
        let (name, value) = line.split_at(colon);
        self.is_plain &= !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
        let name = name.trim_ascii();
        let mut known = KEPT_HEADERS.into_iter().chain([CONNECTION, TRANSFER_ENCODING]);
        let Some(name) = known.find(|known| name.eq_ignore_ascii_case(known.as_bytes())) else {
            return Ok(false);
        };
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii();
        self.headers.push((name, value.to_vec()));
        Ok(true)
    }
}

/// True for the empty line after a head.
fn ends_head(line: &[u8]) -> bool {
    line.is_empty() || line.starts_with(b"\r")
}

/// Parses a status line; returns true for HTTP/1.1, which keeps connections open, and the status.
fn status_of(line: &[u8]) -> Option<(bool, u16)> {
    let (beginning, rest) = line.split_at_checked(BEGINNING.len())?;
    if !beginning.eq_ignore_ascii_case(BEGINNING) {
        return None;
    }
    let rest = rest.trim_ascii_start();
    let versions = [(b"1.1 ".as_slice(), true), (b"1.0 ", false), (b"2 ", false), (b"2.0 ", false)];
    let (rest, is_new) = versions
        .into_iter()
        .find_map(|(version, is_new)| Some((rest.strip_prefix(version)?, is_new)))?;
    let rest = rest.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let status: u16 = str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
    (digits == 3 && status >= 100).then_some((is_new, status))
}

/// Reads heads until a final head is complete.
#[derive(Debug)]
pub(super) struct HeadReader {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Offset of the first incomplete line.
    line_at: usize,
    /// Size of the interim heads so far, in bytes.
    interim_bytes: usize,
    has_heard: bool,
}

impl HeadReader {
    /// Makes a reader for heads of at most `bytes_max` bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, line_at: 0, interim_bytes: 0, has_heard: false }
    }

    /// True if any byte arrived, valid or not.
    pub(super) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// Maximum number of bytes for the next `feed`.
    pub(super) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes.len())
    }

    /// Returns the bytes after the head.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds bytes; returns the head when complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Head>, Broken> {
        self.has_heard |= !bytes.is_empty();
        self.bytes.extend_from_slice(bytes);
        while let Some(end) = self.end_of_head()? {
            let behind = self.bytes.split_off(end);
            let head = std::mem::replace(&mut self.bytes, behind);
            self.line_at = 0;
            let parsed = Head::parse(&head)?;
            if !is_interim(parsed.status) {
                return Ok(Some(parsed));
            }
            self.interim_bytes = self.interim_bytes.saturating_add(head.len());
            if self.interim_bytes > INTERIM_BYTES_MAX {
                return Err(Broken::OnlyInterim);
            }
        }
        if self.room() == 0 { self.cut().map(Some) } else { Ok(None) }
    }

    /// Parses a head at its limit, without its incomplete line. The bytes after it are not read.
    fn cut(&mut self) -> Result<Head, Broken> {
        if self.line_at == 0 {
            return Err(Broken::TooLong);
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.truncate(self.line_at);
        let head = Head::parse(&bytes)?;
        if is_interim(head.status) {
            Err(Broken::OnlyInterim)
        } else {
            Ok(Head { is_plain: false, is_cut: true, ..head })
        }
    }

    /// Parses the head when the connection ended. As with curl, a status line is enough: the head
    /// was cut, but the receiver has answered.
    pub(super) fn end(&mut self) -> Result<Head, Broken> {
        if self.line_at == 0 {
            return Err(Broken::Closed);
        }
        let head = Head::parse(&std::mem::take(&mut self.bytes))?;
        if is_interim(head.status) {
            Err(Broken::Closed)
        } else {
            Ok(Head { is_plain: false, ..head })
        }
    }

    /// Finds the end of the head, if complete.
    fn end_of_head(&mut self) -> Result<Option<usize>, Broken> {
        let beginning = self.bytes.iter().zip(BEGINNING);
        if beginning.into_iter().any(|(byte, wanted)| !byte.eq_ignore_ascii_case(wanted)) {
            return Err(Broken::Malformed("the answer does not begin with an HTTP status"));
        }
        while let Some(line) = self.bytes.get(self.line_at..)
            && let Some(length) = line.iter().position(|byte| *byte == b'\n')
        {
            let is_last = self.line_at > 0 && line.get(..length).is_some_and(ends_head);
            self.line_at = self.line_at.saturating_add(length).saturating_add(1);
            if is_last {
                return Ok(Some(self.line_at));
            }
        }
        Ok(None)
    }
}

/// True for interim statuses. 101 is final, because the request did not ask for another protocol.
fn is_interim(status: u16) -> bool {
    (100..200).contains(&status) && status != 101
}

/// Position of the reader within a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Number of bytes left of a body with known length.
    Length(u64),
    /// The body lasts until the connection is closed.
    UntilClosed,
    /// Within the size of a chunk; holds the digits so far.
    Size(Option<u64>),
    /// Between the size and its line end; holds the size.
    Extension(u64),
    /// Number of bytes left of a chunk.
    Chunk(u64),
    /// Before the line end after a chunk.
    ChunkEnd,
    /// Within the lines after the last chunk; `is_empty` at the start of a line.
    Trailer {
        is_empty: bool,
    },
    Over,
    /// The body ended too soon or too late, or its framing is invalid.
    Broken,
}

impl Part {
    fn of(head: &Head) -> Self {
        if head.is_cut {
            return Self::Broken;
        }
        if matches!(head.status, 101 | 204 | 304) {
            return Self::Over;
        }
        if let Some(encoding) = head.header(TRANSFER_ENCODING) {
            let is_chunked = encoding.eq_ignore_ascii_case(b"chunked")
                && head.values(TRANSFER_ENCODING).count() == 1;
            // With both headers the length is in doubt: a proxy may have read it otherwise.
            let is_clear = is_chunked && head.header(CONTENT_LENGTH).is_none();
            return if is_clear { Self::Size(None) } else { Self::UntilClosed };
        }
        let mut lengths = head.values(CONTENT_LENGTH);
        let Some(first) = lengths.next() else { return Self::UntilClosed };
        let digits = str::from_utf8(first)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.and_then(|text| text.parse().ok()) {
            Some(length) if lengths.all(|other| other == first) => Self::Length(length).or_over(),
            _ => Self::UntilClosed,
        }
    }

    fn or_over(self) -> Self {
        if self == Self::Length(0) { Self::Over } else { self }
    }

    /// Returns the position after this byte of framing.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size(known), _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                let size =
                    known.unwrap_or(0).checked_mul(16).and_then(|size| size.checked_add(digit));
                size.map_or(Self::Broken, |size| Self::Size(Some(size)))
            }
            (Self::Size(Some(0)) | Self::Extension(0), b'\n') => Self::Trailer { is_empty: true },
            (Self::Size(Some(size)) | Self::Extension(size), b'\n') => Self::Chunk(size),
            (Self::Size(Some(size)), b'\r' | b';' | b' ' | b'\t') | (Self::Extension(size), _) => {
                Self::Extension(size)
            }
            (Self::ChunkEnd, b'\r') => Self::ChunkEnd,
            (Self::ChunkEnd, b'\n') => Self::Size(None),
            (Self::Trailer { is_empty: true }, b'\n') => Self::Over,
            (Self::Trailer { is_empty }, b'\r') => Self::Trailer { is_empty },
            (Self::Trailer { .. }, byte) => Self::Trailer { is_empty: byte == b'\n' },
            _ => Self::Broken,
        }
    }

    /// Returns the position after `taken` bytes of data.
    fn less(self, taken: u64) -> Self {
        match self {
            Self::Length(left) => Self::Length(left.saturating_sub(taken)).or_over(),
            Self::Chunk(left) if left > taken => Self::Chunk(left.saturating_sub(taken)),
            Self::Chunk(_) => Self::ChunkEnd,
            other => other,
        }
    }
}

/// Reads the body of an answer as it arrives.
#[derive(Debug)]
pub(super) struct Body {
    part: Part,
    keeps_connection: bool,
    kept: Vec<u8>,
    kept_max: usize,
    /// Maximum number of bytes still to read.
    room: usize,
}

impl Body {
    /// Makes a body of which at most `read_max` bytes are read and the first `kept_max` kept.
    pub(super) fn of(head: &Head, read_max: usize, kept_max: usize) -> Self {
        let (part, keeps_connection) = (Part::of(head), head.keeps_connection());
        Self { part, keeps_connection, kept: Vec::new(), kept_max, room: read_max }
    }

    /// Maximum number of bytes for the next `feed`.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// True if the body is complete, broken, or at its limit.
    pub(super) fn is_read(&self) -> bool {
        self.room == 0 || matches!(self.part, Part::Over | Part::Broken)
    }

    /// True if the kept part is complete.
    pub(super) fn is_kept(&self) -> bool {
        self.is_read() || self.kept.len() >= self.kept_max
    }

    /// True if the connection can take another request.
    pub(super) fn frees_connection(&self) -> bool {
        self.part == Part::Over && self.keeps_connection
    }

    /// Takes the kept part of the body; later bytes are not kept.
    pub(super) fn take_kept(&mut self) -> Vec<u8> {
        self.kept_max = 0;
        std::mem::take(&mut self.kept)
    }

    /// Records the end of the connection.
    pub(super) fn end(&mut self) {
        self.part = Part::Broken;
    }

    /// Adds bytes of the body.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        self.room = self.room.saturating_sub(bytes.len());
        while let Some((first, rest)) = bytes.split_first() {
            let data = match self.part {
                Part::UntilClosed => bytes.len(),
                Part::Length(left) | Part::Chunk(left) => {
                    usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())
                }
                // Bytes after the end belong to no known answer.
                Part::Over | Part::Broken => return self.end(),
                Part::Size(_) | Part::Extension(_) | Part::ChunkEnd | Part::Trailer { .. } => {
                    (self.part, bytes) = (self.part.after(*first), rest);
                    continue;
                }
            };
            let (data, rest) = bytes.split_at(data);
            let kept_room = self.kept_max.saturating_sub(self.kept.len());
            self.kept.extend(data.iter().take(kept_room));
            (self.part, bytes) = (self.part.less(data.len() as u64), rest);
        }
    }
}
