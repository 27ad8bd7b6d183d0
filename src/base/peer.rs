//! Whose connection this thread is working on, for log lines of libraries that do not know it. Set by whoever reads from a
//! connection, right before it does; read by the log.

use std::cell::Cell;
use std::net::SocketAddr;

thread_local! {
    static PEER: Cell<Option<SocketAddr>> = const { Cell::new(None) };
}

/// From now on this thread works for this one.
pub fn set(peer: Option<SocketAddr>) {
    PEER.set(peer);
}

/// For whom this thread works, as far as it was said.
pub fn current() -> Option<SocketAddr> {
    PEER.get()
}
