//! The peer of this thread's connection, for log lines of libraries without knowledge of the peer.
//! Each reader of a connection sets the peer before reading; the log uses it.

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
