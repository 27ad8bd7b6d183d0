//! Why a request got no answer, from the chain of errors an HTTP client gives, in a sentence that helps at three in the
//! morning. Called by the sender; knows the standard library's, rustls' and the resolver's errors, not the client's.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::delivery::resolver::ResolveError;
use crate::model::delivery::{AttemptError, ErrorCode};

/// The word and the sentence. `connecting` says whether there was no connection yet, `place` who was to be reached.
pub(super) fn explain(
    error: &(dyn Error + 'static),
    connecting: bool,
    place: &str,
    connect_timeout: Duration,
) -> AttemptError {
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
    let kind = links.iter().find_map(|link| link.downcast_ref::<io::Error>()).map(io::Error::kind);
    let words = root_words(error);
    if !connecting {
        return named(ErrorCode::Protocol, format!("no valid HTTP answer from {place}: {words}"));
    }
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => {
            named(ErrorCode::Connect, format!("connection refused by {place}"))
        }
        // A connection that ends before anything was said only happens in a TLS handshake.
        Some(io::ErrorKind::UnexpectedEof) => {
            named(ErrorCode::Tls, format!("no secure connection to {place}: it closed the connection in the handshake"))
        }
        Some(io::ErrorKind::TimedOut) | None => {
            named(ErrorCode::Connect, format!("no connection to {place} within {}", span(connect_timeout)))
        }
        Some(_) => named(ErrorCode::Connect, format!("no connection to {place}: {words}")),
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

/// The error and what it came from, outermost first. An `io::Error` hides the error inside of it from `source`.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut links = vec![error];
    // Bounded, so that an error that names itself as its source cannot hold us.
    while let Some(last) = links.last().filter(|_| links.len() < 32) {
        let inside: Option<&'a (dyn Error + 'static)> = match last.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().map(|inner| -> &'a (dyn Error + 'static) { inner }),
            None => last.source(),
        };
        match inside {
            Some(inside) => links.push(inside),
            None => break,
        }
    }
    links
}
