//! Looks for bytes that wait in a socket. Asks the system, and not the runtime, which may not know
//! of them yet.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// The next thing that a reader of a socket would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// At least one byte.
    Bytes,
    /// Nothing yet.
    Nothing,
    /// The end of the connection, or an error.
    End,
}

/// Looks at the socket without taking a byte from it, and without waiting.
pub fn peek(socket: impl AsFd) -> Unread {
    match recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, bytes)) if bytes > 0 => Unread::Bytes,
        Err(Errno::AGAIN) => Unread::Nothing,
        Ok(_) | Err(_) => Unread::End,
    }
}
