//! Explains why a request got no answer: from the chain of errors to a sentence that helps at three
//! in the morning. Called by the sender; knows the errors of the standard library, rustls, the
//! connector, the resolver and of answers.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::answer::{Broken, HEAD_BYTES_MAX, INTERIM_BYTES_MAX};
use super::connector::{Step, TooLate, TooLong};
use super::resolver::ResolveError;
use crate::base::library_errors::{system_words, tls_fault};
use crate::model::delivery::{AttemptError, ErrorCode};

/// Returns code and sentence for an error. `place` is the target, `step` the stage of the
/// connection.
pub(super) fn explain(error: &(dyn Error + 'static), step: Step, place: &str) -> AttemptError {
    let links = chain(error);
    if let Some(named) = explain_named(&links, place) {
        return named;
    }
    let named = |code, detail| AttemptError { code, detail };
    let words = root_words(error);
    let kinds: Vec<_> = links
        .iter()
        .filter_map(|link| link.downcast_ref::<io::Error>())
        .map(io::Error::kind)
        .collect();
    match step {
        Step::Use => {
            named(ErrorCode::Protocol, format!("no valid HTTP answer from {place}: {words}"))
        }
        Step::Secure if kinds.contains(&io::ErrorKind::UnexpectedEof) => named(
            ErrorCode::Tls,
            format!("the TLS handshake with {place} failed: the connection was closed"),
        ),
        Step::Secure => {
            named(ErrorCode::Tls, format!("the TLS handshake with {place} failed: {words}"))
        }
        Step::Connect if kinds.contains(&io::ErrorKind::ConnectionRefused) => {
            named(ErrorCode::Connect, format!("connection refused by {place}"))
        }
        Step::Resolve | Step::Connect => {
            named(ErrorCode::Connect, format!("no connection to {place}: {words}"))
        }
    }
}

/// Explains an error that one of its links names: of the resolver, of TLS, or of the answer.
fn explain_named(links: &[&(dyn Error + 'static)], place: &str) -> Option<AttemptError> {
    let named = |code, detail| Some(AttemptError { code, detail });
    if let Some(resolve) = links.iter().find_map(|link| link.downcast_ref::<ResolveError>()) {
        let code = match resolve {
            ResolveError::NoAddress { .. } => ErrorCode::Dns,
            ResolveError::Blocked { .. } => ErrorCode::EgressBlocked,
        };
        return named(code, resolve.to_string());
    }
    if let Some(tls) = links.iter().find_map(|link| link.downcast_ref::<rustls::Error>()) {
        let said = tls.to_string();
        let words = tls_fault(&said).unwrap_or(&said);
        return named(ErrorCode::Tls, format!("the TLS handshake with {place} failed: {words}"));
    }
    if let Some(cut) = links.iter().find_map(|link| link.downcast_ref::<TooLong>()) {
        return named(
            ErrorCode::Tls,
            format!("the TLS handshake with {place} failed: the receiver sent {cut}"),
        );
    }
    match links.iter().find_map(|link| link.downcast_ref::<Broken>()) {
        Some(Broken::TooLong) => {
            let kib = HEAD_BYTES_MAX >> 10;
            let detail =
                format!("the first line of the answer from {place} is longer than {kib} KiB");
            named(ErrorCode::Protocol, detail)
        }
        Some(Broken::OnlyInterim) => {
            let kib = INTERIM_BYTES_MAX >> 10;
            let detail = format!(
                "{place} sent no final answer, only more than {kib} KiB of interim answers (1xx)"
            );
            named(ErrorCode::Protocol, detail)
        }
        Some(Broken::Io(_) | Broken::Closed | Broken::Malformed(_)) | None => None,
    }
}

/// True if the time to connect was over.
pub(super) fn is_late(error: &(dyn Error + 'static)) -> bool {
    chain(error).into_iter().any(<dyn Error>::is::<TooLate>)
}

/// Explains a connection that took too long.
pub(super) fn explain_late(step: Step, within: Duration, place: &str) -> AttemptError {
    let within = span(within);
    let (code, detail) = match step {
        Step::Resolve => {
            (ErrorCode::Dns, format!("the name of {place} was not resolved within {within}"))
        }
        Step::Connect => (ErrorCode::Connect, format!("no connection to {place} within {within}")),
        Step::Secure | Step::Use => (
            ErrorCode::Tls,
            format!("the TLS handshake with {place} did not finish within {within}"),
        ),
    };
    AttemptError { code, detail }
}

/// Explains an attempt that took too long.
pub(super) fn explain_timeout(step: Step, within: Duration, place: &str) -> AttemptError {
    let still = match step {
        Step::Resolve => "; the name was not yet resolved",
        Step::Connect => "; the connection was not yet established",
        Step::Secure => "; the TLS handshake was not finished",
        Step::Use => "",
    };
    let detail = format!("no answer from {place} within {}{still}", span(within));
    AttemptError { code: ErrorCode::Timeout, detail }
}

/// The words of the innermost error.
fn root_words(error: &(dyn Error + 'static)) -> String {
    let words = chain(error).last().map_or_else(String::new, ToString::to_string);
    tls_fault(&words).unwrap_or_else(|| system_words(&words)).to_owned()
}

/// A duration as people write it: `15 s`, `250 ms`.
pub(super) fn span(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

/// The error and its sources, outermost first. Bounded, because an error could name itself as its
/// source.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |outer| inside(*outer)).take(32).collect()
}

/// The source of an error. An `io::Error` does not return the error inside as its source.
fn inside<'a>(outer: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match outer.downcast_ref::<io::Error>() {
        Some(hiding) => hiding.get_ref().map(|inner| -> &'a (dyn Error + 'static) { inner }),
        None => outer.source(),
    }
}
