//! Counts requests to the operator's routes without the admin token, for the audit log. Any client
//! can send such requests, so they get one entry in ten minutes at most, with their number and the
//! addresses of their clients: some megabytes in a year, however many they are. The first request
//! gets an entry at once, and those of the next ten minutes get one when these are over.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::units::millis;
use crate::model::audit::{Action, Changed, Note, Subject};

/// The shortest time between two entries.
const EVERY: Duration = Duration::from_mins(10);
/// Maximum number of addresses in an entry.
const ADDRESSES_MAX: usize = 10;

/// The refused requests since the last entry.
#[derive(Debug, Default)]
pub(in crate::http) struct RefusedAdmin(Mutex<Counting>);

#[derive(Debug, Default)]
struct Counting {
    /// The uptime of the last entry, in milliseconds.
    noted_ms: Option<u64>,
    refused: Refused,
}

/// Refused requests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct Refused {
    /// The number of requests.
    pub(in crate::http) count: u64,
    /// Some of the addresses of the clients.
    pub(in crate::http) addresses: BTreeSet<IpAddr>,
}

impl Refused {
    /// Returns the note for the entry about these requests.
    pub(in crate::http) fn note(self) -> Note {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        let addresses = Changed::new("addresses", &addresses.join(" "));
        let changes = vec![Changed::new("requests", &self.count), addresses];
        Note { action: Action::AdministrationRefused, subject: Subject::Administration, changes }
    }
}

impl RefusedAdmin {
    /// Counts a refused request. Returns the requests for an entry, if one is due.
    pub(in crate::http) fn count(
        &self,
        address: Option<IpAddr>,
        uptime_ms: u64,
    ) -> Option<Refused> {
        let mut counting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counting.refused.count += 1;
        if counting.refused.addresses.len() < ADDRESSES_MAX {
            counting.refused.addresses.extend(address);
        }
        counting.take_due(uptime_ms)
    }

    /// Returns the counted requests, if there are any and their ten minutes are over.
    pub(in crate::http) fn take_due(&self, uptime_ms: u64) -> Option<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take_due(uptime_ms)
    }

    /// Returns the counted requests, if there are any: no later call will.
    pub(in crate::http) fn take_last(&self) -> Option<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Counting {
    fn take_due(&mut self, uptime_ms: u64) -> Option<Refused> {
        let since_ms = self.noted_ms.map(|noted_ms| uptime_ms.saturating_sub(noted_ms));
        if since_ms.is_some_and(|since_ms| since_ms < millis(EVERY)) {
            return None;
        }
        let refused = self.take()?;
        self.noted_ms = Some(uptime_ms);
        Some(refused)
    }

    fn take(&mut self) -> Option<Refused> {
        Some(std::mem::take(&mut self.refused)).filter(|refused| refused.count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_entry_in_ten_minutes_with_the_number_of_requests_and_some_addresses() {
        let refused = RefusedAdmin::default();
        let shown = |it: Refused| (it.count, it.addresses.len());
        let of = |second: u64, last: u8| {
            let address = IpAddr::from([192, 0, 2, last]);
            refused.count(Some(address), second * 1_000).map(shown)
        };
        assert_eq!(of(0, 0), Some((1, 1)));
        for second in 1..600 {
            assert_eq!(of(second, u8::try_from(second % 250).unwrap()), None);
        }
        assert_eq!(refused.take_due(599_999), None);
        assert_eq!(refused.take_due(600_000).map(shown), Some((599, ADDRESSES_MAX)));
        assert_eq!((of(601, 1), refused.take_due(1_199_999)), (None, None));
        assert_eq!(of(1_200, 2), Some((2, 2)));
        assert_eq!((refused.take_due(9_000_000), refused.take_last()), (None, None), "no request");
        assert_eq!((of(9_001, 1), of(9_002, 1)), (Some((1, 1)), None));
        assert_eq!(refused.take_last().map(shown), Some((1, 1)));
    }
}
