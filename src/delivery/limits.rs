//! The limits of the scheduler. Made by the application from the configuration.

use super::fair_queue::Room;
use crate::base::failpoint::{self, Switch};
use crate::rules::breaker::BreakerPolicy;

/// Maximum number of unsettled attempts for each attempt that may be in flight. After a crash the
/// unsettled attempts are repeated.
const UNSETTLED_PER_IN_FLIGHT: usize = 4;
/// The same factor within an organization. It is larger because an organization's share is small
/// beside the attempts that one sync of the journal settles.
const UNSETTLED_PER_IN_FLIGHT_OF_ORG: usize = 16;
/// The limit in flight can be raised at runtime to at most this multiple of its start value: the
/// channel of reports has room for it.
pub const RAISED_TIMES: usize = 4;

/// Limits of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SchedulerLimits {
    /// Maximum number of attempts in flight.
    pub in_flight: usize,
    /// Maximum number of attempts in flight to the endpoints of one organization.
    pub in_flight_per_org: usize,
    /// Maximum number of attempts in flight to one endpoint.
    pub in_flight_per_endpoint: usize,
    /// Maximum number of deliveries in memory for one endpoint.
    pub queue_per_endpoint: usize,
    /// Maximum number of deliveries in memory. Beyond the limit, only an empty endpoint queue gets
    /// a delivery.
    pub queued: usize,
    /// When the circuit breaker of an endpoint opens.
    pub breaker: BreakerPolicy,
}

impl SchedulerLimits {
    pub(super) fn room(&self) -> Room {
        let unsettled = self.in_flight.saturating_mul(UNSETTLED_PER_IN_FLIGHT);
        Room { in_flight: self.in_flight, unsettled }
    }

    pub(super) fn room_per_org(&self) -> Room {
        if failpoint::is_on(Switch::ShareOff) {
            return self.room();
        }
        let in_flight = self.in_flight_per_org;
        let unsettled =
            in_flight.saturating_mul(UNSETTLED_PER_IN_FLIGHT_OF_ORG).min(self.room().unsettled);
        Room { in_flight, unsettled }
    }

    /// Capacity of the channel of reports: two for each attempt, with the limits raised as far as
    /// possible.
    pub(super) fn reports(&self) -> usize {
        self.room().unsettled.saturating_mul(2 * RAISED_TIMES)
    }
}
