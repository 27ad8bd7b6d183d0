//! Opens the server's address, and waits while another process uses it, or while the machine does
//! not have it yet: at boot, and when a neighbour's address is taken over, it comes late.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::{StartError, systemd};
use crate::base::threads::Signal;
use crate::config::Server;

/// Maximum number of connections waiting to be accepted; `net.core.somaxconn` may lower this
/// number. A burst of connections exceeds the standard library's 128: the kernel then drops
/// connections, and their clients try again a second later.
const BACKLOG: i32 = 4_096;
/// Time between two tries to listen.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Listens on the configured address. Returns the address in effect too.
pub(super) fn open(server: &Server) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = server.listen;
    let listener = listen(address, server.bind)?;
    match listener.local_addr() {
        Ok(in_effect) => Ok((listener, in_effect)),
        Err(cause) => Err(StartError::Listen { address, cause }),
    }
}

/// Returns why an address may become free or come later, or `None` if it is refused for good.
fn may_come(cause: &io::Error) -> Option<&'static str> {
    match cause.kind() {
        io::ErrorKind::AddrInUse => Some("is in use by another process"),
        io::ErrorKind::AddrNotAvailable => Some("is no address of this machine yet"),
        _ => None,
    }
}

/// Listens on the address. While the address cannot be had, tries again for at most `within` and
/// logs the wait once.
fn listen(address: SocketAddr, within: Duration) -> Result<TcpListener, StartError> {
    let deadline = Instant::now() + within;
    let mut is_told = false;
    loop {
        let cause = match bind(address) {
            Ok(listener) => return Ok(listener),
            Err(cause) => cause,
        };
        let Some(why) = may_come(&cause).filter(|_| Instant::now() < deadline) else {
            return Err(StartError::Listen { address, cause });
        };
        if !std::mem::replace(&mut is_told, true) {
            let seconds = within.as_secs();
            tracing::warn!(%address, seconds, "the address {why}; waiting until it can be used");
        }
        systemd::extend(&format!("{address} {why}; waiting until it can be used"));
        Signal::new().wait(TRY_EVERY);
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    // The socket listens already; a second `listen` changes the length of its queue.
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_connects_at_once_is_not_turned_away() {
        let queue_max = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
        if queue_max.trim().parse().is_ok_and(|queue_max: u32| queue_max < 400) {
            println!(
                "skipped: the kernel's queue holds {} here (net.core.somaxconn)",
                queue_max.trim()
            );
            return;
        }
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), Duration::ZERO).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts connections meanwhile, so the kernel's queue holds all of them.
        let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
        let crowd: Vec<_> = (0..400).map(connect).collect::<Result<_, _>>().unwrap();
        assert_eq!(crowd.len(), 400);
    }

    /// 192.0.2.1 is for documentation (RFC 5737), so no machine has it.
    #[test]
    fn an_address_that_the_machine_does_not_have_is_waited_for_too() {
        let (address, began) = (SocketAddr::from(([192, 0, 2, 1], 1_024)), Instant::now());
        let within = Duration::from_millis(150);
        let error = listen(address, within).unwrap_err().to_string();
        assert!(began.elapsed() >= within && error.contains("192.0.2.1"), "{error}");
    }

    #[test]
    fn an_address_that_another_has_is_waited_for_and_then_given_up() {
        let other = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = other.local_addr().unwrap();
        let error = listen(address, Duration::from_millis(150)).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
        let waits = std::thread::Builder::new()
            .spawn(move || listen(address, Duration::from_mins(1)))
            .unwrap();
        drop(other);
        assert_eq!(waits.join().unwrap().unwrap().local_addr().unwrap(), address);
    }
}
