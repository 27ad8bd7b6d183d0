//! The subject of a log line about a delivery or an attempt: the ids of the organization, the
//! endpoint, the event and the delivery, as users know them. Every such line is written by
//! `log_about`, so that it has all ids that are known.

use crate::model::delivery::DeliveryStatus;
use crate::model::id::{DeliveryId, EndpointId, EventId, OrgId};
use crate::store::DueDelivery;

/// An attempt and the delivery that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The organization; absent only if its row is lost.
    pub organization: Option<OrgId>,
    /// The endpoint that receives the request.
    pub endpoint: EndpointId,
    /// The event, sent as `webhook-id`; the same at every attempt.
    pub event: EventId,
    /// The delivery; `None` for the test of an endpoint.
    pub delivery: Option<DeliveryId>,
    /// The number of the attempt; the first is 1.
    pub attempt: u32,
    /// The state of the delivery, if known.
    pub state: Option<DeliveryStatus>,
    /// The HTTP status of the answer, if there is one.
    pub status: Option<u16>,
}

impl Subject {
    /// The next attempt of a delivery.
    pub fn of(delivery: &DueDelivery) -> Self {
        let is_first = delivery.attempts == 0;
        let state = if is_first { DeliveryStatus::Pending } else { DeliveryStatus::Retrying };
        Self {
            organization: delivery.org_id,
            endpoint: delivery.endpoint.id,
            event: delivery.event,
            delivery: Some(DeliveryId::of(delivery.event, delivery.endpoint_number)),
            attempt: delivery.attempts + 1,
            state: Some(state),
            status: None,
        }
    }

    /// The test of an endpoint, which is no delivery.
    pub fn of_test(organization: Option<OrgId>, endpoint: EndpointId, event: EventId) -> Self {
        let (delivery, state, status) = (None, None, None);
        Self { organization, endpoint, event, delivery, attempt: 1, state, status }
    }
}

/// Logs a line at a level about a [`Subject`], with all its ids.
macro_rules! log_about {
    ($level:ident, $subject:expr, $($rest:tt)+) => {{
        let subject: &$crate::delivery::subject::Subject = &$subject;
        tracing::$level!(
            organization = subject.organization.map(tracing::field::display),
            endpoint = %subject.endpoint,
            event = %subject.event,
            delivery = subject.delivery.map(tracing::field::display),
            attempt = subject.attempt,
            state = subject.state.map($crate::model::delivery::DeliveryStatus::name),
            status = subject.status,
            $($rest)+
        );
    }};
}

pub(super) use log_about;
