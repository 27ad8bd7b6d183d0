//! How many files and connections may be open: the soft limit is raised to the hard one, and what the journal and the state
//! need is set apart from what connections may take. Called once, at the start.

use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};

/// For the journal and the state as they grow, log files, the directories that are synced, and name look-ups.
const OWN: u64 = 192;
/// The same, for a limit that has hardly room for that: at most three of so many parts.
const OWN_SHARE: u64 = 4;
/// What is open before there is any connection, beside what each thread has.
const OWN_MIN: u64 = 32;
/// Nothing useful runs with fewer connections.
const CONNECTIONS_MIN: u64 = 16;

/// What may be open, in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub u64);

/// What connections may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Connections that others made to us.
    pub incoming: usize,
    /// Connections that we make.
    pub outgoing: usize,
}

/// The least limit with which anything runs, when threads have so many files open.
pub fn least(files: usize) -> u64 {
    OWN_MIN + CONNECTIONS_MIN + files as u64
}

/// Raises the soft limit to the hard one; gives what holds then, or none if it cannot be said.
pub fn raise() -> Option<Limit> {
    // Read from here, not by a system call: a service's sandbox forbids that one together with the raising.
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

/// Soft and hard limit of open files.
fn limits(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace().map(|word| if word == "unlimited" { Ok(u64::MAX) } else { word.parse() });
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

impl Limit {
    /// What connections may take of it when so many are wanted and `files` are open already or soon.
    pub fn shares(self, wanted: Shares, files: usize) -> Shares {
        let files = files as u64;
        let own = (OWN + files).min((self.0 / OWN_SHARE * 3).max(files + OWN_MIN));
        let room = self.0.saturating_sub(own);
        let (incoming, outgoing) = (wanted.incoming as u64, wanted.outgoing as u64);
        if own + incoming + outgoing <= self.0 {
            return wanted;
        }
        // What we make is bounded by a quarter first, so that the others keep most.
        let outgoing = outgoing.min((room / 4).max(1));
        let incoming = incoming.min(room.saturating_sub(outgoing).max(CONNECTIONS_MIN));
        let count = |share: u64| usize::try_from(share).unwrap_or(usize::MAX);
        Shares { incoming: count(incoming), outgoing: count(outgoing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             94946                94946                processes \n\
                    Max open files            1024                 unlimited            files     \n";
        assert_eq!(limits(text), Some((1_024, u64::MAX)));
        assert!(raise().is_some_and(|Limit(limit)| limit > 0));
    }

    #[test]
    fn what_fits_is_given_and_what_does_not_leaves_room_for_the_journal() {
        let wanted = Shares { incoming: 10_000, outgoing: 1_024 };
        assert_eq!(Limit(65_536).shares(wanted, 300), wanted);
        assert_eq!(Limit(12_000).shares(wanted, 200), wanted, "there is room for all of it");
        assert_eq!(Limit(10_000 + 1_024 + 192 + 200).shares(wanted, 200), wanted);
        for (limit, files) in [(1_024, 5), (1_024, 400), (4_096, 100), (256, 5), (12_000, 5_000), (256, 200)] {
            let Shares { incoming, outgoing } = Limit(limit).shares(wanted, files);
            let left = limit - (incoming + outgoing) as u64;
            assert!(left >= (files as u64 + 64).min(limit / 4), "{limit}, {files}: {incoming} in, {outgoing} out");
            assert!(
                incoming >= 16 && outgoing >= 1 && incoming >= outgoing,
                "{limit}, {files}: {incoming}, {outgoing}"
            );
        }
    }
}
