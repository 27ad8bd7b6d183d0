//! The reasons why a store of objects fails, in words that say what to do.

use std::error::Error;

use super::error::BackupError;
use crate::base::library_errors::shortened;
use crate::config::S3Url;

/// The beginning of the words for an answer that was cut off.
const TOO_LONG: &str = "the answer is longer than";

/// The code of a missing bucket.
const NO_BUCKET: &str = "NoSuchBucket";
/// The code and the status of a range that begins behind the end of an object.
const NO_RANGE: &str = "InvalidRange";
const NO_RANGE_STATUS: &str = "416 Range Not Satisfiable";

/// An answer has more bytes than this, and was cut off.
#[derive(Debug, thiserror::Error)]
#[error("{TOO_LONG} {0} bytes")]
pub(super) struct TooLong(pub(super) usize);

/// Returns the failure of a request to this store, in words. A store's own words are shortened.
pub(super) fn told(error: &dyn Error, url: &S3Url, endpoint: &str) -> BackupError {
    let text = whole(error);
    let (code, message) = (element(&text, "Code"), element(&text, "Message"));
    let said = match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => text.clone(),
    };
    let kind = Kind::of(code.unwrap_or_default(), &text);
    BackupError::Store(kind.words(&url.bucket, endpoint, &shortened(&said)))
}

/// Returns true if the store says that the bucket is missing.
pub(super) fn says_no_bucket(error: &dyn Error) -> bool {
    element(&whole(error), "Code") == Some(NO_BUCKET)
}

/// Returns true if the store says that an object has nothing in the range.
pub(super) fn says_no_range(error: &dyn Error) -> bool {
    let text = whole(error);
    element(&text, "Code") == Some(NO_RANGE) || text.contains(NO_RANGE_STATUS)
}

/// The kinds of failures, each with its own advice.
enum Kind {
    NoBucket,
    Keys,
    Rights,
    Region,
    Clock,
    Away,
    Other,
}

impl Kind {
    fn of(code: &str, text: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match code {
            NO_BUCKET => Self::NoBucket,
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" => {
                Self::Keys
            }
            "RequestTimeTooSkewed" => Self::Clock,
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "TemporaryRedirect" => {
                Self::Region
            }
            "AccessDenied" | "AllAccessDisabled" => Self::Rights,
            _ if says(&["redirect", "301 Moved"]) => Self::Region,
            _ if says(&["403 Forbidden", "401 Unauthorized"]) => Self::Rights,
            _ if says(&[TOO_LONG]) => Self::Other,
            _ if says(&["HTTP error", "error sending request", "timed out"]) => Self::Away,
            _ => Self::Other,
        }
    }

    fn words(&self, bucket: &str, endpoint: &str, said: &str) -> String {
        match self {
            Self::NoBucket => format!(
                "the store {endpoint} has no bucket {bucket}; create the bucket, or correct its \
                 name"
            ),
            Self::Keys => format!(
                "the store {endpoint} does not accept the credentials ({said}); correct \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the file with the credentials"
            ),
            Self::Rights => format!(
                "the store {endpoint} refuses access to the bucket {bucket} ({said}); the \
                 credentials need s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"
            ),
            Self::Region => format!(
                "the bucket {bucket} is in another region than the requests to {endpoint} say \
                 ({said}); name its region in AWS_REGION or [backup] s3_region"
            ),
            Self::Clock => format!(
                "the store {endpoint} refuses requests because its clock differs from the one of \
                 this machine ({said}); set the clock"
            ),
            Self::Away => format!(
                "the store {endpoint} does not answer ({said}); if its address is wrong, correct \
                 AWS_ENDPOINT_URL or [backup] s3_endpoint"
            ),
            Self::Other => format!("the store {endpoint} failed: {said}"),
        }
    }
}

/// Returns the texts of an error and of its causes, each once.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        let more = found.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = found.source();
    }
    text
}

/// Returns the content of an element of XML, as stores answer.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(text: &str) -> String {
        let url = "s3://bucket/prefix".parse().unwrap();
        told(&std::io::Error::other(text.to_owned()), &url, "https://store").to_string()
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let answer = |code: &str| {
            format!("status code: 403 Forbidden: <Error><Code>{code}</Code><Message>m</Message>")
        };
        for (text, words) in [
            (answer("NoSuchBucket"), "create the bucket"),
            (answer("SignatureDoesNotMatch"), "AWS_SECRET_ACCESS_KEY"),
            (answer("InvalidAccessKeyId"), "InvalidAccessKeyId: m"),
            (answer("AccessDenied"), "need s3:ListBucket"),
            (answer("Unheard"), "need s3:ListBucket"),
            (answer("PermanentRedirect"), "AWS_REGION"),
            (answer("RequestTimeTooSkewed"), "set the clock"),
            ("Received redirect without LOCATION".to_owned(), "s3_region"),
            ("HTTP error: error sending request".to_owned(), "AWS_ENDPOINT_URL"),
            ("a".repeat(1_000), "aaa…"),
            (answer(&"c".repeat(100_000)), "ccc…"),
            (answer("Unheard").replace(">m<", &format!(">{}<", "m".repeat(100_000))), "mmm…"),
            (format!("HTTP error: {}", TooLong(7)), "failed: HTTP error: the answer is longer"),
        ] {
            let said = words_of(&text);
            assert!(said.contains(words) && said.len() < 500, "{said}");
        }
    }
}
