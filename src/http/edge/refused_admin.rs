//! Counts requests to the operator's routes without the admin token, for the audit log. Any client
//! can send such requests, so they get one entry in ten minutes at most, with their number and the
//! addresses of their clients: some megabytes in a year, however many they are.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two entries.
const EVERY: Duration = Duration::from_mins(10);
/// Maximum number of addresses in an entry.
const ADDRESSES_MAX: usize = 10;

/// The refused requests since the last entry.
#[derive(Debug, Default)]
pub(in crate::http) struct RefusedAdmin(Mutex<Counting>);

#[derive(Debug, Default)]
struct Counting {
    noted: Option<Instant>,
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

impl RefusedAdmin {
    /// Counts a refused request. Returns the requests for an entry, if one is due.
    pub(in crate::http) fn count(&self, address: Option<IpAddr>, now: Instant) -> Option<Refused> {
        let mut counting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Counting { noted, refused } = &mut *counting;
        refused.count += 1;
        if refused.addresses.len() < ADDRESSES_MAX {
            refused.addresses.extend(address);
        }
        let is_due = noted.is_none_or(|noted| now.duration_since(noted) >= EVERY);
        is_due.then(|| {
            *noted = Some(now);
            std::mem::take(refused)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_entry_in_ten_minutes_with_the_number_of_requests_and_some_addresses() {
        let (refused, began) = (RefusedAdmin::default(), Instant::now());
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let of = |second: u64, last| {
            let at = began + Duration::from_secs(second);
            refused.count(Some(address(last)), at).map(|it| (it.count, it.addresses.len()))
        };
        assert_eq!(of(0, 0), Some((1, 1)));
        for second in 1..600 {
            assert_eq!(of(second, u8::try_from(second % 250).unwrap()), None);
        }
        assert_eq!(of(600, 1), Some((600, ADDRESSES_MAX)));
        assert_eq!(of(601, 1), None);
    }
}
