//! The address of a server and the key of a caller, each with its source.

use super::Failure;
use crate::base::addresses;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::url_fault;

/// A server's address and the source of the address.
pub(super) struct Target {
    pub(super) url: url::Url,
    pub(super) origin: String,
}

/// A key or token and the source of it.
pub(super) struct Credential {
    pub(super) text: String,
    pub(super) origin: String,
    /// The word for it in messages.
    pub(super) noun: &'static str,
}

impl Credential {
    /// Makes the credential of an API key from this source.
    pub(super) fn key(text: impl Into<String>, origin: impl Into<String>) -> Self {
        Self { text: text.into(), origin: origin.into(), noun: "key" }
    }

    /// Makes the credential of an admin token from this source.
    pub(super) fn admin_token(text: impl Into<String>, origin: impl Into<String>) -> Self {
        Self { text: text.into(), origin: origin.into(), noun: "admin token" }
    }
}

impl Target {
    /// Parses an address. Without a scheme it is HTTP; the path is the prefix that a proxy removes.
    pub(super) fn parse(text: &str, origin: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let refused = |why: &dyn std::fmt::Display| {
            let example =
                "http://127.0.0.1:8080, localhost:8080 or https://events.example.com/prefix";
            Failure::new(
                ExitCode::Usage,
                format!(
                    "{origin}: {:?} is not the URL of a server: {why}; write a URL such as \
                     {example}",
                    without_password(text)
                ),
            )
        };
        let lower = text.to_ascii_lowercase();
        if !text.is_empty()
            && text.trim_start_matches(':').bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(refused(&"the host is missing before the port"));
        }
        if !text.contains("://") && (lower.starts_with("http:") || lower.starts_with("https:")) {
            return Err(refused(&"`//` is missing after the scheme"));
        }
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = url::Url::parse(&whole).map_err(|error| refused(&url_fault(error)))?;
        if addresses::has_octal_host(&whole) {
            let host = url.host_str().unwrap_or_default();
            return Err(refused(&format_args!(
                "the numbers of the address begin with zeros; write {host} if this address is meant"
            )));
        }
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused(&"the scheme is neither http nor https"));
        }
        if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
            return Err(refused(&"the host or the port is missing"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused(&"a query or a fragment is not allowed"));
        }
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&prefix);
        Ok(Self { url, origin: origin.to_owned() })
    }
}

/// Cuts the text before an `@`, which may hold a password.
fn without_password(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        Target::parse(text, "--url")
            .map(|target| target.url.to_string())
            .map_err(|failure| failure.message)
    }

    #[test]
    fn an_address_is_read_as_people_write_it() {
        for (text, url) in [
            ("localhost:8080", "http://localhost:8080/"),
            (" 127.0.0.1:8080/ ", "http://127.0.0.1:8080/"),
            ("[::1]:8080", "http://[::1]:8080/"),
            ("events.example.com", "http://events.example.com/"),
            ("events.example.com/prefix/", "http://events.example.com/prefix"),
            ("http://host/prefix/", "http://host/prefix"),
            ("https://host/a/b//", "https://host/a/b"),
            ("HTTPS://user:word@host", "https://user:word@host/"),
            ("http.example.com:80", "http://http.example.com/"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason_and_without_a_password() {
        for (text, why) in [
            ("", "host"),
            ("ftp://host", "neither http nor https"),
            ("http:/host", "`//` is missing"),
            ("https:host", "`//` is missing"),
            ("http://", "host"),
            ("host:99999", "port"),
            ("host:0", "port"),
            ("http://host/?a=b", "query"),
            ("http://host/#top", "fragment"),
            ("http://010.0.0.1:80", "write 8.0.0.1"),
            ("010.0.0.1", "begin with zeros"),
            ("http://[::1", "not an IPv6 address"),
            ("8080", "host is missing"),
            (":8080", "host is missing"),
        ] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.contains(why) && refused.starts_with("--url: "), "{text}: {refused}");
        }
        assert!(!parsed("ftp://user:word@host").unwrap_err().contains("word"));
    }
}
