//! Events that a snapshot knows although their records are lost. Their payloads are gone;
//! everything else about them is in the state.

use serde_json::json;

use crate::cli::losses::Losses;
use crate::journal::Lost;
use crate::store::{StateError, Store};

/// Adds the events whose records lie in lost ranges.
pub(super) fn with_lost_payloads(
    mut losses: Losses,
    store: &Store,
    lost: &[Lost],
) -> Result<Losses, StateError> {
    let ranges: Vec<_> = lost.iter().map(|lost| lost.from..lost.to).collect();
    for (org, event) in store.events_within(&ranges)? {
        let line = format!(
            "PAYLOAD   {event}: its payload is lost, the event itself is not; acknowledge or erase \
             it"
        );
        let entry = || json!({"kind": "payload", "id": event, "organization_number": org.0});
        losses.add("payload", line, entry);
    }
    Ok(losses)
}
