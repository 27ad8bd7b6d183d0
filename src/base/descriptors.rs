//! The limit of open files and connections. The soft limit is raised to the hard limit, and files
//! for the journal and the state are reserved before connections get the rest. Called once, at the
//! start.

use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Files reserved for the journal and the state as they grow, log files, synced directories and
/// name lookups.
const OWN: u64 = 192;
/// Divisor for small limits: the reserve takes at most three of this many parts of the limit.
const OWN_SHARE: u64 = 4;
/// Files that are open before any connection, beside the files of each thread.
const OWN_MIN: u64 = 32;
/// Minimum number of connections with which a server is useful.
const CONNECTIONS_MIN: u64 = 16;

/// The maximum number of open files, connections included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub u64);

/// The maximum numbers of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionShares {
    /// Connections from clients to this server.
    pub incoming: usize,
    /// Connections from this server to others.
    pub outgoing: usize,
}

/// Returns the smallest limit with which the server runs when its threads have `files` files open.
pub fn least(files: usize) -> u64 {
    OWN_MIN + CONNECTIONS_MIN + files as u64
}

/// Raises the soft limit to the hard limit. Returns the limit that holds then, or `None` if the
/// limit is unknown.
pub fn raise() -> Option<Limit> {
    // The limit is read from a file, not by a system call: a service's sandbox forbids the call
    // that reads, because the same call raises.
    let (soft, hard) = limits(&fs::read_to_string("/proc/self/limits").ok()?)?;
    if soft >= hard {
        return Some(Limit(soft));
    }
    let wanted = Rlimit { current: Some(hard), maximum: Some(hard) };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => Some(Limit(hard)),
        Err(error) => {
            tracing::debug!(%error, soft, hard, "the limit of open files could not be raised");
            Some(Limit(soft))
        }
    }
}

/// Reads the soft and the hard limit of open files.
fn limits(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line
        .split_whitespace()
        .map(|word| if word == "unlimited" { Ok(u64::MAX) } else { word.parse() });
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

impl Limit {
    /// Returns the connections that fit in the limit, given the wanted numbers and `files` open
    /// files.
    pub fn shares(self, wanted: ConnectionShares, files: usize) -> ConnectionShares {
        let files = files as u64;
        let own = (OWN + files).min((self.0 / OWN_SHARE * 3).max(files + OWN_MIN));
        let room = self.0.saturating_sub(own);
        let (incoming, outgoing) = (wanted.incoming as u64, wanted.outgoing as u64);
        if own + incoming + outgoing <= self.0 {
            return wanted;
        }
        // Outgoing connections get at most a quarter, so that incoming connections keep most of the
        // room.
        let outgoing = outgoing.min((room / 4).max(1));
        let incoming = incoming.min(room.saturating_sub(outgoing).max(CONNECTIONS_MIN));
        let count = |share: u64| usize::try_from(share).unwrap_or(usize::MAX);
        ConnectionShares { incoming: count(incoming), outgoing: count(outgoing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           \
            Units     \n\
                    Max processes             94946                94946                \
                    processes \n\
                    Max open files            1024                 unlimited            \
                    files     \n";
        assert_eq!(limits(text), Some((1_024, u64::MAX)));
        assert!(raise().is_some_and(|Limit(limit)| limit > 0));
    }

    #[test]
    fn what_fits_is_given_and_what_does_not_leaves_room_for_the_journal() {
        let wanted = ConnectionShares { incoming: 10_000, outgoing: 1_024 };
        assert_eq!(Limit(65_536).shares(wanted, 300), wanted);
        assert_eq!(Limit(12_000).shares(wanted, 200), wanted, "there is room for all of it");
        assert_eq!(Limit(10_000 + 1_024 + 192 + 200).shares(wanted, 200), wanted);
        for (limit, files) in
            [(1_024, 5), (1_024, 400), (4_096, 100), (256, 5), (12_000, 5_000), (256, 200)]
        {
            let ConnectionShares { incoming, outgoing } = Limit(limit).shares(wanted, files);
            let left = limit - (incoming + outgoing) as u64;
            assert!(
                left >= (files as u64 + 64).min(limit / 4),
                "{limit}, {files}: {incoming} in, {outgoing} out"
            );
            assert!(
                incoming >= 16 && outgoing >= 1 && incoming >= outgoing,
                "{limit}, {files}: {incoming}, {outgoing}"
            );
        }
    }
}
