//! Decides which operational events an attempt causes, and writes their payloads. Called at the end
//! of an attempt; pure.
//!
//! The attempt knows only the state at its beginning, so the settling decides in journal order if
//! the events are true. The events go to inboxes and other endpoints, so a payload contains no
//! credential.

use serde::Serialize;
use utoipa::ToSchema;

use crate::commands::SettleAttempt;
use crate::model::delivery::{AttemptError, DeadReason, Verdict};
use crate::model::endpoint::DisabledReason;
use crate::model::id::{DeliveryId, EndpointId, EventId};
use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
use crate::model::time::Timestamp;
use crate::store::DueDelivery;

/// Returns the operational events of the attempt. An attempt of an operational event causes none,
/// so these events never multiply. `failing_after_ms` is the time of nothing but failures after
/// which an endpoint counts as failing; 0 means never.
pub(super) fn caused_by(
    delivery: &DueDelivery,
    settle: &SettleAttempt,
    steady: Timestamp,
    failing_after_ms: u64,
) -> Vec<OperationalEvent> {
    let reported = delivery.failing_told;
    let mut kinds = Vec::new();
    if settle.outcome.error.is_none() {
        kinds.extend(reported.map(|_| OperationalEventKind::EndpointRecovered));
    } else {
        if matches!(settle.verdict, Verdict::Dead(_)) {
            kinds.push(OperationalEventKind::DeliveryDead);
        }
        if settle.disables.is_some() {
            kinds.push(OperationalEventKind::EndpointDisabled);
        } else if delivery.failing_since != reported
            && is_failing(delivery.failing_from, steady, failing_after_ms)
        {
            kinds.push(OperationalEventKind::EndpointFailing);
        }
    }
    if kinds.is_empty() || delivery.event_type.is_own() {
        return Vec::new();
    }
    kinds.into_iter().map(|kind| operational_event(kind, delivery, settle)).collect()
}

fn is_failing(from: Option<Timestamp>, steady: Timestamp, failing_after_ms: u64) -> bool {
    failing_after_ms > 0 && from.is_some_and(|from| from.plus_ms(failing_after_ms) <= steady)
}

fn operational_event(
    kind: OperationalEventKind,
    delivery: &DueDelivery,
    settle: &SettleAttempt,
) -> OperationalEvent {
    let payload = EndpointReport::of(kind, delivery, settle);
    // Texts, ids and numbers always serialize.
    let payload = serde_json::to_vec(&payload).unwrap_or_else(|_| b"null".to_vec());
    let failing_since = delivery.failing_since;
    OperationalEvent {
        kind,
        failing_since,
        id: EventId(0),
        received_at: Timestamp(0),
        payload: payload.into(),
    }
}

/// The payload; its members have the same names as in the API.
/// The payload of an operational event about an endpoint.
#[derive(Serialize, ToSchema)]
pub struct EndpointReport<'a> {
    endpoint_id: EndpointId,
    /// The endpoint's URL without its query.
    url: &'a str,
    /// Why the endpoint is disabled or the delivery dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Start of the first attempt in the current streak of failures.
    #[schema(required)]
    failing_since: Option<Timestamp>,
    /// The delivery whose attempt caused the event.
    delivery_id: DeliveryId,
    event_id: EventId,
    event_type: &'a str,
    /// Number of attempts of this delivery so far.
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<AttemptError>,
}

impl<'a> EndpointReport<'a> {
    fn of(kind: OperationalEventKind, delivery: &'a DueDelivery, settle: &SettleAttempt) -> Self {
        let outcome = &settle.outcome;
        let reason = match (kind, settle.verdict) {
            (OperationalEventKind::DeliveryDead, Verdict::Dead(reason)) => {
                Some(DeadReason::name(reason))
            }
            (OperationalEventKind::EndpointDisabled, _) => {
                settle.disables.map(DisabledReason::name)
            }
            _ => None,
        };
        let began = outcome.error.as_ref().map(|_| outcome.started_at);
        Self {
            endpoint_id: delivery.endpoint.id,
            url: delivery.endpoint.settings.url_without_query(),
            reason,
            failing_since: delivery.failing_since.or(delivery.failing_told).or(began),
            delivery_id: DeliveryId::of(delivery.event, delivery.endpoint_number),
            event_id: delivery.event,
            event_type: delivery.event_type.as_str(),
            attempts: settle.number,
            error: outcome.error.clone().map(|error| error.without_receivers_words(outcome.status)),
        }
    }
}

#[cfg(test)]
#[path = "operational_events_tests.rs"]
mod tests;
