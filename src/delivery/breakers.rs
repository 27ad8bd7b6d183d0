//! The circuit breakers as the API shows them. Written by the scheduler.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tracing::field::display;

use crate::base::clock::Clock;
use crate::base::metrics::Metrics;
use crate::model::id::{EndpointId, OrgNo};
use crate::rules::breaker::BreakerView;
use crate::store::Store;

/// Circuit breakers that are open or half-open. They live in memory: after a restart all are
/// closed.
#[derive(Debug, Default)]
pub struct Breakers(RwLock<HashMap<EndpointId, BreakerView>>);

impl Breakers {
    /// Returns the breaker of the endpoint.
    pub fn of(&self, endpoint: EndpointId) -> BreakerView {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&endpoint)
            .copied()
            .unwrap_or_default()
    }

    /// Sets the breaker of the endpoint; returns the number of open and half-open breakers.
    pub(super) fn set(&self, endpoint: EndpointId, view: BreakerView) -> usize {
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match view {
            BreakerView::Closed => open.remove(&endpoint),
            BreakerView::Open(_) | BreakerView::HalfOpen => open.insert(endpoint, view),
        };
        open.len()
    }
}

/// Publishes each change of a breaker: to the API, the metrics and the log. Used by the endpoint
/// queues.
pub(super) struct Publisher {
    pub(super) breakers: Arc<Breakers>,
    /// Knows the organizations' ids.
    pub(super) store: Arc<Store>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
}

impl Publisher {
    /// Publishes a breaker. The scheduler's times are steady, and others see wall times.
    pub(super) fn publish(&self, org: OrgNo, endpoint: EndpointId, view: BreakerView) {
        let view = match view {
            BreakerView::Open(until) => BreakerView::Open(until.minus_ms(self.clock.ahead_ms())),
            BreakerView::Closed | BreakerView::HalfOpen => view,
        };
        let open = self.breakers.set(endpoint, view);
        self.metrics.breakers_open.set(i64::try_from(open).unwrap_or(i64::MAX));
        let organization = self.store.org_id(org).ok().flatten().map(display);
        match view {
            BreakerView::Open(until) => {
                tracing::info!(organization, %endpoint, %until, status = "open", "the circuit \
                    breaker of the endpoint is open");
            }
            BreakerView::Closed => {
                tracing::info!(organization, %endpoint, status = "closed", "the circuit breaker \
                    of the endpoint is closed");
            }
            BreakerView::HalfOpen => {}
        }
    }
}
