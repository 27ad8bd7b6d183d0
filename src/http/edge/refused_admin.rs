//! Counts requests to the operator's routes without the admin token, for the audit log. Any client
//! can send such requests, so the log gets one entry a minute at most, with their number.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two entries.
const EVERY: Duration = Duration::from_secs(60);

/// The refused requests since the last entry.
#[derive(Debug, Default)]
pub(in crate::http) struct RefusedAdmin(Mutex<Refused>);

#[derive(Debug, Default)]
struct Refused {
    noted: Option<Instant>,
    count: u64,
}

impl RefusedAdmin {
    /// Counts a refused request. Returns the number of requests for an entry, if one is due.
    pub(in crate::http) fn count(&self, now: Instant) -> Option<u64> {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.count += 1;
        let is_due = refused.noted.is_none_or(|noted| now.duration_since(noted) >= EVERY);
        is_due.then(|| {
            refused.noted = Some(now);
            std::mem::take(&mut refused.count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_entry_a_minute_with_the_number_of_requests() {
        let (refused, began) = (RefusedAdmin::default(), Instant::now());
        assert_eq!(refused.count(began), Some(1));
        for second in 1..60 {
            assert_eq!(refused.count(began + Duration::from_secs(second)), None);
        }
        assert_eq!(refused.count(began + EVERY), Some(60));
        assert_eq!(refused.count(began + EVERY), None);
    }
}
