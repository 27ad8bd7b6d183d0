//! Reports unfinished events that expire: an operational event for their organization, and a line
//! in the log. Pure, but for the log.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::metrics::{ExpiryReason, Label as _};
use crate::model::event::EventType;
use crate::model::id::OrgId;
use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
use crate::model::time::Timestamp;
use crate::store::Expiring;

/// Maximum number of types that a report counts one by one. The most frequent types come first.
const TYPES_MAX: usize = 100;

/// The payload of `triggerd.inbox.expired`.
#[derive(Serialize, ToSchema)]
pub struct ExpiryReport<'a> {
    /// The number of unfinished events.
    events: u64,
    /// The number of events of each type; at most the 100 most frequent types.
    #[schema(value_type = BTreeMap<String, u64>)]
    by_type: BTreeMap<&'a str, u64>,
    /// The number of events whose types are not in `by_type`.
    other_types: u64,
    first_received_at: Timestamp,
    last_received_at: Timestamp,
    /// The age at which such events expire.
    open_seconds: u64,
    /// `age`, or `disk` if the events had to leave before.
    reason: &'static str,
}

/// Returns the operational event about the unfinished events. `None` if there are none.
pub(super) fn report(
    expiring: &Expiring,
    (open, reason): (Duration, ExpiryReason),
) -> Option<OperationalEvent> {
    let (first_received_at, last_received_at) = expiring.received?;
    let mut types: Vec<(&EventType, u64)> =
        expiring.unconfirmed.iter().map(|(event_type, events)| (event_type, *events)).collect();
    types.sort_by_key(|(_, events)| Reverse(*events));
    let others = types.split_off(types.len().min(TYPES_MAX));
    let payload = ExpiryReport {
        events: expiring.unconfirmed.values().sum(),
        by_type: types.iter().map(|(event_type, events)| (event_type.as_str(), *events)).collect(),
        other_types: others.iter().map(|(_, events)| events).sum(),
        first_received_at,
        last_received_at,
        open_seconds: open.as_secs(),
        reason: word(reason),
    };
    Some(OperationalEvent::new(OperationalEventKind::InboxExpired, &payload))
}

fn word(reason: ExpiryReason) -> &'static str {
    ExpiryReason::NAMES.get(reason.index()).copied().unwrap_or_default()
}

/// Writes the log line about the unfinished events, if there are any.
pub(super) fn log(organization: OrgId, expiring: &Expiring, reason: ExpiryReason) {
    let Some((first, last)) = expiring.received else { return };
    let events: u64 = expiring.unconfirmed.values().sum();
    tracing::warn!(
        %organization,
        events,
        types = expiring.unconfirmed.len(),
        first_received_at = %first,
        last_received_at = %last,
        reason = word(reason),
        "unfinished events have expired; [retention] open_seconds, or the value of their tier, \
         sets the age, and keep_free_share when they have to leave before"
    );
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn payload(expiring: &Expiring) -> Value {
        let report = report(expiring, (Duration::from_secs(90), ExpiryReason::Age)).unwrap();
        serde_json::from_slice(&report.payload).unwrap()
    }

    #[test]
    fn a_report_counts_the_most_frequent_types_and_the_others_together() {
        let mut expiring =
            Expiring { received: Some((Timestamp(0), Timestamp(1_000))), ..Expiring::default() };
        expiring.unconfirmed.insert("a".parse().unwrap(), 3);
        expiring.unconfirmed.insert("b".parse().unwrap(), 4);
        let expected = json!({
            "events": 7, "by_type": {"a": 3, "b": 4}, "other_types": 0,
            "first_received_at": "1970-01-01T00:00:00.000Z",
            "last_received_at": "1970-01-01T00:00:01.000Z", "open_seconds": 90,
            "reason": "age",
        });
        assert_eq!(payload(&expiring), expected);
        for number in 0..TYPES_MAX {
            expiring.unconfirmed.insert(format!("t{number}").parse().unwrap(), 2);
        }
        let found = payload(&expiring);
        assert_eq!(found["by_type"].as_object().unwrap().len(), TYPES_MAX);
        assert_eq!((&found["by_type"]["b"], &found["other_types"]), (&json!(4), &json!(4)));
        assert_eq!(found["events"], 207);
    }

    #[test]
    fn without_unconfirmed_events_there_is_no_report() {
        assert_eq!(report(&Expiring::default(), (Duration::ZERO, ExpiryReason::Disk)), None);
    }
}
