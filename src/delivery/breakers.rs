//! The endpoints that are left alone for a while, for those who want to say why. Written by the scheduler.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::model::id::EndpointId;
use crate::rules::breaker::BreakerView;

/// Breakers that are not closed. They live in memory: after a restart all are closed.
#[derive(Debug, Default)]
pub struct Breakers(RwLock<HashMap<EndpointId, BreakerView>>);

impl Breakers {
    /// The breaker of this endpoint.
    pub fn of(&self, endpoint: EndpointId) -> BreakerView {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&endpoint).copied().unwrap_or_default()
    }

    /// Says how it is now; gives how many are not closed.
    pub(super) fn set(&self, endpoint: EndpointId, view: BreakerView) -> usize {
        let mut open = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match view {
            BreakerView::Closed => open.remove(&endpoint),
            BreakerView::Open(_) | BreakerView::HalfOpen => open.insert(endpoint, view),
        };
        open.len()
    }
}
