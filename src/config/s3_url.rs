//! The place of backups in a bucket of an S3-compatible store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The beginning of the URL of a place in a bucket.
const SCHEME: &str = "s3://";
/// Characters of a prefix beside letters and digits (Amazon S3, "safe characters").
const PREFIX_CHARS: &str = "!-_.'()/=+";

/// A place in a bucket, `s3://BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Url {
    /// The bucket.
    pub bucket: String,
    /// The beginning of the keys, without `/` at its ends.
    pub prefix: String,
}

impl S3Url {
    /// Returns the place in a bucket that this path names, or its fault. A path of a file system is
    /// none, but a URL of another scheme is a fault: nobody means a directory `gs:`.
    pub fn of(path: &Path) -> Option<Result<Self, String>> {
        let text = path.to_str().filter(|text| is_url(text))?;
        if text.starts_with(SCHEME) {
            return Some(text.parse());
        }
        Some(Err(format!("must be a path of a file system or s3://BUCKET/PREFIX, not {text:?}")))
    }

    /// Returns the place without the last part of its prefix, and that part.
    pub fn split_last(&self) -> Option<(Self, &str)> {
        let (prefix, last) = self.prefix.rsplit_once('/').unwrap_or(("", &self.prefix));
        let parent = Self { bucket: self.bucket.clone(), prefix: prefix.to_owned() };
        (!last.is_empty()).then_some((parent, last))
    }

    /// Returns a place below.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let prefix = if self.prefix.is_empty() { String::new() } else { self.prefix.clone() + "/" };
        Self { bucket: self.bucket.clone(), prefix: prefix + name }
    }
}

impl FromStr for S3Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_bucket = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !(3..=255).contains(&bucket.len()) || !bucket.chars().all(is_bucket) {
            return Err(format!(
                "must be s3://BUCKET/PREFIX, where BUCKET has at least 3 letters, digits, -, _ \
                 and ., not {text:?}"
            ));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_prefix = |c: char| c.is_ascii_alphanumeric() || PREFIX_CHARS.contains(c);
        let is_part = |part: &str| !["", ".", ".."].contains(&part);
        if !prefix.chars().all(is_prefix) || !(prefix.is_empty() || prefix.split('/').all(is_part))
        {
            return Err(format!(
                "must have a prefix of letters, digits and {PREFIX_CHARS}, without empty parts, \
                 not {text:?}"
            ));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{SCHEME}{}{slash}{}", self.bucket, self.prefix)
    }
}

/// Returns true if the text begins with a scheme and `://` (RFC 3986, section 3.1).
fn is_url(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    text.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme))
}

/// Returns a directory, or the fault of a text that is meant as a place in a bucket.
pub(super) fn directory_or_bucket(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match S3Url::of(&path) {
        Some(url) => url.map(|_| path),
        None => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_bucket_is_read_and_shown_alike() {
        for (text, bucket, prefix) in [
            ("s3://bucket", "bucket", ""),
            ("s3://bucket/", "bucket", ""),
            ("s3://my.bucket-1/a/b/", "my.bucket-1", "a/b"),
        ] {
            let url = S3Url::of(Path::new(text)).unwrap().unwrap();
            assert_eq!((url.bucket.as_str(), url.prefix.as_str()), (bucket, prefix), "{text}");
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
        }
        for text in ["s3://", "s3:///a", "s3://b", "s3://bucket//a", "s3://bucket/../a"] {
            assert!(S3Url::of(Path::new(text)).unwrap().is_err(), "{text}");
        }
        for text in ["gs://bucket/a", "file:///backup", "S3://bucket", "az+blob://a"] {
            let fault = S3Url::of(Path::new(text)).unwrap().unwrap_err();
            assert!(fault.contains("s3://BUCKET/PREFIX") && fault.contains(text), "{fault}");
        }
        for path in ["/backup/s3", "./gs://a", "/a://b", "://a", "1s://a", "a b://c", "gs:/a"] {
            assert!(S3Url::of(Path::new(path)).is_none(), "{path}");
        }
        let url: S3Url = "s3://bucket/a/b".parse().unwrap();
        let (parent, last) = url.split_last().unwrap();
        assert_eq!((parent.to_string().as_str(), last), ("s3://bucket/a", "b"));
        assert_eq!(parent.join(last), url);
        assert!(directory_or_bucket("gs://bucket/a").is_err());
        assert!(directory_or_bucket("/backup").is_ok());
    }
}
