//! Bytes that wait in a socket until the peer takes them. The kernel keeps them for minutes after
//! the socket was closed, and counts them for nobody: so they are taken first, given up, or kept
//! for a short time.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io;
use rustix::net::sockopt::{set_socket_linger, set_socket_send_buffer_size, set_tcp_user_timeout};
use rustix::time::Timespec;

/// Milliseconds after which the kernel gives up a closed connection whose peer takes nothing more.
const AFTER_CLOSE_MS: u32 = 60_000;

/// Prepares a socket that sends nothing more for [`is_taken`].
pub fn prepare_to_close(socket: impl AsFd) -> io::Result<()> {
    // A socket can be written to while less than about two thirds of its buffer are in use. The
    // kernel makes this smallest buffer about 4 KiB long.
    set_socket_send_buffer_size(socket, 1)
}

/// Limits the time for which the kernel offers the last bytes of a socket that is closed now.
pub fn limit_after_close(socket: impl AsFd) -> io::Result<()> {
    set_tcp_user_timeout(socket, AFTER_CLOSE_MS)
}

/// True if the peer has taken all bytes except for 3 KiB, or is gone. Works between
/// [`prepare_to_close`] and the end of sending. Does not wait.
pub fn is_taken(socket: impl AsFd) -> bool {
    let mut asked = [PollFd::new(&socket, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut asked, Some(&now)), Ok(0) | Err(io::Errno::INTR))
}

/// Makes the kernel forget the unsent bytes when the socket is closed. The peer gets a reset.
pub fn give_up(socket: impl AsFd) -> io::Result<()> {
    set_socket_linger(socket, Some(Duration::ZERO))
}
