//! Why a request got no answer, from the chain of errors an HTTP client gives, in a sentence that helps at three in the
//! morning. Called by the sender; knows the standard library's, rustls' and the resolver's errors, not the client's.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::resolver::ResolveError;
use crate::model::delivery::{AttemptError, ErrorCode};

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No connection yet.
    Connecting,
    /// No connection in this time.
    ConnectTimedOut(Duration),
    /// Connected, and perhaps sent.
    Connected,
}

/// The word and the sentence; `place` is who was to be reached.
pub(super) fn explain(error: &(dyn Error + 'static), stage: Stage, place: &str) -> AttemptError {
    let named = |code, detail| AttemptError { code, detail };
    let links = chain(error);
    if let Some(resolve) = links.iter().find_map(|link| link.downcast_ref::<ResolveError>()) {
        let code = match resolve {
            ResolveError::NoAddress { .. } => ErrorCode::Dns,
            ResolveError::Blocked { .. } => ErrorCode::EgressBlocked,
        };
        return named(code, resolve.to_string());
    }
    if let Some(tls) = links.iter().find_map(|link| link.downcast_ref::<rustls::Error>()) {
        return named(ErrorCode::Tls, format!("no secure connection to {place}: {tls}"));
    }
    let words = root_words(error);
    match stage {
        Stage::ConnectTimedOut(within) => {
            named(ErrorCode::Connect, format!("no connection to {place} within {}", span(within)))
        }
        Stage::Connected => named(ErrorCode::Protocol, format!("no valid HTTP answer from {place}: {words}")),
        Stage::Connecting => {
            let kinds: Vec<_> =
                links.iter().filter_map(|link| link.downcast_ref::<io::Error>()).map(io::Error::kind).collect();
            if kinds.contains(&io::ErrorKind::ConnectionRefused) {
                named(ErrorCode::Connect, format!("connection refused by {place}"))
            } else if kinds.contains(&io::ErrorKind::UnexpectedEof) {
                // A connection that ends before anything was asked for: that only happens in a TLS handshake.
                named(ErrorCode::Tls, format!("no secure connection to {place}: closed during the handshake"))
            } else {
                named(ErrorCode::Connect, format!("no connection to {place}: {words}"))
            }
        }
    }
}

/// What the innermost error says.
pub(super) fn root_words(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

/// A time as people write it: `15 s`, `250 ms`.
pub(super) fn span(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{} ms", time.as_millis()) }
}

/// The error and what it came from, outermost first. Bounded, so that an error that names itself as its source cannot
/// hold us.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |outer| inside(*outer)).take(32).collect()
}

/// The error inside of an error. An `io::Error` does not give its own as its source.
fn inside<'a>(outer: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match outer.downcast_ref::<io::Error>() {
        Some(hiding) => hiding.get_ref().map(|inner| -> &'a (dyn Error + 'static) { inner }),
        None => outer.source(),
    }
}
