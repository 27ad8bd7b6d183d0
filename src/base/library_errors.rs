//! Errors of libraries in words for users. The libraries' own texts are for programmers, and change
//! with versions.

use std::io::{self, ErrorKind};
use std::path::Path;

use url::ParseError;

/// Returns true if the disk or the quota is full, or the file is as large as the process may make
/// it (`ulimit -f`).
pub fn is_no_space(error: &io::Error) -> bool {
    use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The beginnings of serde_json's messages and their meanings. Longer beginnings come before
/// shorter beginnings.
const JSON: [(&str, &str); 18] = [
    ("EOF", "the text ends before the value does"),
    ("expected `:`", "a colon is missing between a member's name and its value"),
    ("expected `,` or `]`", "a comma or the closing ] of the array is missing"),
    ("expected `,` or `}`", "a comma or the closing } of the object is missing"),
    ("expected `\"`", "a string in double quotes is missing"),
    ("expected value", "there is no JSON value; a string needs double quotes"),
    ("expected ident", "there is no JSON value; only true, false and null stand without quotes"),
    ("trailing comma", "a comma has nothing after it"),
    ("trailing characters", "more text follows the value"),
    ("key must be a string", "a member's name must be in double quotes"),
    (
        "control character",
        "a control character in a string must be written as an escape, such as \\n",
    ),
    ("invalid escape", "a backslash is not followed by an escape of JSON"),
    (
        "invalid number",
        "the number is not a JSON number: it must not begin with a zero or a plus, and needs \
         digits around the point",
    ),
    ("number out of range", "a number is too large"),
    ("recursion limit", "arrays and objects are nested too deep: at most 128 levels"),
    ("invalid unicode", "an escape \\u names no character"),
    (
        "unexpected end of hex escape",
        "an escape \\u is half of a pair, and the other half is missing",
    ),
    ("lone leading", "an escape \\u is half of a pair, and the other half is missing"),
];

/// The longest foreign text that a message quotes, in characters.
const QUOTED_CHARS_MAX: usize = 300;

/// Returns a text of another program as one line that is short enough to be quoted in a message.
pub fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// Returns the reason why a text is not JSON, with line and column.
pub fn json_fault(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let (line, column) = (error.line(), error.column());
    if message.starts_with("EOF") && (line, column) == (1, 0) {
        return "the text is empty".to_owned();
    }
    let known = JSON.iter().find(|(beginning, _)| message.starts_with(beginning));
    let meaning = known.map_or("the text cannot be read", |(_, meaning)| meaning);
    format!("{meaning} (line {line}, column {column})")
}

/// Returns the reason why a text is not a URL.
pub fn url_fault(error: ParseError) -> &'static str {
    match error {
        ParseError::RelativeUrlWithoutBase => {
            "the URL does not begin with a scheme, such as https://"
        }
        ParseError::EmptyHost => "the host is missing",
        ParseError::IdnaError | ParseError::InvalidDomainCharacter => {
            "the host has characters that a host name cannot have"
        }
        ParseError::InvalidPort => "the port must be a number from 1 to 65535",
        ParseError::InvalidIpv4Address => "the host ends in a number and is not an IPv4 address",
        ParseError::InvalidIpv6Address => {
            "the host is not an IPv6 address in brackets, such as [2001:db8::1]"
        }
        ParseError::Overflow => "the URL is too long",
        _ => "the URL cannot be read",
    }
}

/// Returns the reason why compressed data cannot be read.
pub fn compression_fault(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::UnexpectedEof => "the data ends too early",
        ErrorKind::InvalidInput | ErrorKind::InvalidData => {
            "the header, the blocks or the checksum are wrong"
        }
        _ => "the data cannot be read",
    }
}

/// Returns the reason why a TLS handshake failed, from the message of rustls. `None` for rare
/// messages.
pub fn tls_fault(message: &str) -> Option<&'static str> {
    let has = |part: &str| message.contains(part);
    if has("InvalidContentType") || has("corrupt message") {
        Some("the server does not speak TLS at this address")
    } else if !has("ertificate") {
        None
    } else if has("UnknownIssuer") {
        Some("this machine does not trust the issuer of the server's certificate")
    } else if has("NotValidForName") || has("not valid for name") {
        Some("the server's certificate is for another name")
    } else if has("NotValidYet") || has("not valid yet") {
        Some("the server's certificate is not valid yet; check the clock of this machine")
    } else if has("xpired") {
        Some("the server's certificate has expired, or the clock of this machine is wrong")
    } else if has("Revoked") || has("revoked") {
        Some("the server's certificate is revoked")
    } else {
        has("invalid peer certificate").then_some("the server's certificate cannot be verified")
    }
}

/// Returns the reason why a file cannot be read or written, without the number of the system's
/// error.
pub fn io_words(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::InvalidData => "it is not UTF-8 text; save it as UTF-8".to_owned(),
        ErrorKind::NotFound => "it does not exist".to_owned(),
        ErrorKind::IsADirectory => "it is a directory, but a file is needed".to_owned(),
        _ => os_words(error),
    }
}

/// Returns the error with the file in its words, for a writer that does not know the file.
pub fn of_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {}", path.display(), io_words(error)))
}

/// Returns the text of an error of the operating system, without the error number.
pub fn os_words(error: &std::io::Error) -> String {
    system_words(&error.to_string()).to_owned()
}

/// Returns the system's error text, without the error number and without the standard library's
/// prefix.
pub fn system_words(message: &str) -> &str {
    let words = message.strip_prefix("failed to lookup address information: ").unwrap_or(message);
    words.rsplit_once(" (os error ").map_or(words, |(words, _)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_json_is_said_in_our_words() {
        let deep = "[".repeat(200);
        for (text, part) in [
            ("", "the text is empty"),
            ("{", "ends before"),
            ("[1", "ends before"),
            ("\"a", "ends before"),
            ("nonsense", "null stand without quotes"),
            ("hello", "a string needs double quotes"),
            ("{\"a\" 1}", "colon"),
            ("[1 2]", "comma or the closing ]"),
            ("{\"a\":1 \"b\":2}", "comma or the closing }"),
            ("{a:1}", "name must be in double quotes"),
            ("[1,]", "comma has nothing after it"),
            ("1 2", "more text follows"),
            ("\"a\nb\"", "control character"),
            ("\"\\x\"", "backslash"),
            ("01", "number"),
            ("1e999", "too large"),
            (&deep, "128 levels"),
            ("\"\\ud800\"", "half of a pair"),
        ] {
            let fault = json_fault(&serde_json::from_str::<serde_json::Value>(text).unwrap_err());
            assert!(fault.contains(part), "{text}: {fault}");
            assert!(text.is_empty() || fault.contains("line "), "{text}: {fault}");
        }
    }

    #[test]
    fn what_the_system_says_has_no_numbers() {
        assert_eq!(system_words("Connection refused (os error 111)"), "Connection refused");
        assert_eq!(
            system_words("failed to lookup address information: Name unknown"),
            "Name unknown"
        );
        assert_eq!(
            tls_fault("invalid peer certificate: Expired"),
            tls_fault("certificate expired: it is late")
        );
        assert!(
            tls_fault("received corrupt message of type InvalidContentType")
                .unwrap()
                .contains("TLS")
        );
        assert_eq!(tls_fault("peer sent no certificates of use"), None);
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_in_our_words() {
        for (text, part) in [
            ("nonsense", "begin with a scheme"),
            ("", "begin with a scheme"),
            ("/hook", "begin with a scheme"),
            ("https://", "host is missing"),
            ("https://a:99999/", "1 to 65535"),
            ("https://1.2.3.4.5/", "not an IPv4"),
            ("https://[::1/", "not an IPv6"),
            ("https://a b/", "characters"),
        ] {
            let fault = url_fault(url::Url::parse(text).unwrap_err());
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }
}
