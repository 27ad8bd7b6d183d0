//! The peer of the connection that this thread works on, for log lines of libraries that do not
//! know the peer. Each reader of a connection sets the peer before it reads; the log uses it.

use std::cell::Cell;
use std::net::SocketAddr;

thread_local! {
    static PEER: Cell<Option<SocketAddr>> = const { Cell::new(None) };
}

/// Sets the peer for which this thread works.
pub fn set(peer: Option<SocketAddr>) {
    PEER.set(peer);
}

/// Returns the peer for which this thread works, if it is known.
pub fn current() -> Option<SocketAddr> {
    PEER.get()
}
