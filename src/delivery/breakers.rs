//! Publishes the circuit breakers of endpoints: to the API, the metrics and the log.

use tracing::field::display;

use crate::commit::Engine;
use crate::model::id::{EndpointId, OrgNo};
use crate::rules::breaker::BreakerView;

/// Publishes a breaker that has changed. The scheduler's times are steady, and others see wall
/// times.
pub(super) fn publish(engine: &Engine, org: OrgNo, endpoint: EndpointId, view: BreakerView) {
    let view = match view {
        BreakerView::Open(until) => BreakerView::Open(until.minus_ms(engine.clock.ahead_ms())),
        BreakerView::Closed | BreakerView::HalfOpen => view,
    };
    let open = engine.breakers.set(endpoint, view);
    engine.metrics.breakers_open.set(i64::try_from(open).unwrap_or(i64::MAX));
    let organization = engine.store.org_id(org).ok().flatten().map(display);
    match view {
        BreakerView::Open(until) => {
            tracing::info!(organization, %endpoint, %until, status = "open", "the circuit breaker \
                of the endpoint is open");
        }
        BreakerView::Closed => {
            tracing::info!(organization, %endpoint, status = "closed", "the circuit breaker of the \
                endpoint is closed");
        }
        BreakerView::HalfOpen => {}
    }
}
