//! Which operational events an attempt causes, and what stands in them. Called when an attempt is over; pure.
//!
//! Whether they are true is decided when the attempt is settled, in journal order: here is only known what its beginning
//! saw. They go to inboxes and to other endpoints, so nothing stands in them that may be a credential.

use serde::Serialize;

use crate::commands::SettleAttempt;
use crate::model::delivery::{AttemptError, DeadReason, Verdict};
use crate::model::endpoint::DisabledReason;
use crate::model::id::{DeliveryId, EndpointId, EventId};
use crate::model::notice::{Notice, NoticeKind};
use crate::model::time::Timestamp;
use crate::store::DueDelivery;

/// What the attempt causes; nothing if it was about an operational event, so that these never cause more of themselves.
/// `failing_after_ms`: after so long of nothing but failures an endpoint counts as failing; 0: never.
pub(super) fn caused_by(
    delivery: &DueDelivery,
    settle: &SettleAttempt,
    now: Timestamp,
    failing_after_ms: u64,
) -> Vec<Notice> {
    let told = delivery.failing_told;
    let mut kinds = Vec::new();
    if settle.outcome.error.is_none() {
        kinds.extend(told.map(|_| NoticeKind::EndpointRecovered));
    } else {
        if matches!(settle.verdict, Verdict::Dead(_)) {
            kinds.push(NoticeKind::DeliveryDead);
        }
        if settle.disables.is_some() {
            kinds.push(NoticeKind::EndpointDisabled);
        } else if delivery.failing_since != told && is_failing(delivery.failing_since, now, failing_after_ms) {
            kinds.push(NoticeKind::EndpointFailing);
        }
    }
    if kinds.is_empty() || delivery.event_type.is_own() {
        return Vec::new();
    }
    kinds.into_iter().map(|kind| notice(kind, delivery, settle)).collect()
}

fn is_failing(since: Option<Timestamp>, now: Timestamp, failing_after_ms: u64) -> bool {
    failing_after_ms > 0 && since.is_some_and(|since| since.plus_ms(failing_after_ms) <= now)
}

fn notice(kind: NoticeKind, delivery: &DueDelivery, settle: &SettleAttempt) -> Notice {
    let payload = Payload::of(kind, delivery, settle);
    // Texts, ids and numbers only: it cannot fail.
    let payload = serde_json::to_vec(&payload).unwrap_or_else(|_| b"null".to_vec());
    let failing_since = delivery.failing_since;
    Notice { kind, failing_since, id: EventId(0), received_at: Timestamp(0), payload: payload.into() }
}

/// The members are named as in the API.
#[derive(Serialize)]
struct Payload<'a> {
    endpoint_id: EndpointId,
    /// Without its query.
    url: &'a str,
    /// Why it is disabled, or dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    failing_since: Option<Timestamp>,
    /// The delivery whose attempt showed it,
    delivery_id: DeliveryId,
    event_id: EventId,
    event_type: &'a str,
    /// and how many there were.
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<AttemptError>,
}

impl<'a> Payload<'a> {
    fn of(kind: NoticeKind, delivery: &'a DueDelivery, settle: &SettleAttempt) -> Self {
        let outcome = &settle.outcome;
        let reason = match (kind, settle.verdict) {
            (NoticeKind::DeliveryDead, Verdict::Dead(reason)) => Some(DeadReason::name(reason)),
            (NoticeKind::EndpointDisabled, _) => settle.disables.map(DisabledReason::name),
            _ => None,
        };
        let began = outcome.error.as_ref().map(|_| outcome.started_at);
        Self {
            endpoint_id: delivery.endpoint.id,
            url: without_query(&delivery.endpoint.settings.url),
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

/// Queries often hold tokens. A URL with a user or a password is no endpoint's.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
#[path = "notices_tests.rs"]
mod tests;
