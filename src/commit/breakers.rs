//! The circuit breakers as the API shows them. Written by the scheduler.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::model::id::EndpointId;
use crate::rules::breaker::BreakerView;

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
    pub fn set(&self, endpoint: EndpointId, view: BreakerView) -> usize {
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match view {
            BreakerView::Closed => open.remove(&endpoint),
            BreakerView::Open(_) | BreakerView::HalfOpen => open.insert(endpoint, view),
        };
        open.len()
    }
}
