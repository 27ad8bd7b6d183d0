//! Command: tries a delivery now.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::delivery::Trigger;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::key::Scope;
use crate::model::time::{Look, Timestamp};
use crate::store::change::Again;
use crate::store::rows::schema::{DeliveryState, DueRow};
use crate::store::{Change, StateError, Unapplied};

/// Makes a delivery due now. A waiting delivery continues its retry schedule. A dead, canceled or
/// accepted delivery waits again, and its schedule starts over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryDelivery {
    /// The organization of the delivery.
    pub org: OrgNo,
    /// The endpoint of the delivery.
    pub endpoint: EndpointId,
    /// The event of the delivery.
    pub event: EventId,
    /// The time at which the delivery becomes due: a steady time, like all due times.
    pub at: Timestamp,
    /// Set when the command must change nothing but a dead letter.
    pub only_dead: bool,
    /// The trigger recorded for the next attempt, unless the delivery was due anyway.
    pub trigger: Trigger,
}

/// The outcome of [`RetryDelivery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOutcome {
    /// The delivery is due now.
    Queued,
    /// The event's payload is erased.
    Erased {
        /// The time of the erasure.
        at: Timestamp,
    },
    /// The delivery does not exist, its endpoint is deleted, or only a dead letter was wanted.
    NotFound,
}

impl Kind for RetryDelivery {
    const NUMBER: u8 = 16;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Key(Scope::DeliveriesWrite);

    type Outcome = RetryOutcome;

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn event(&self) -> Option<EventId> {
        Some(self.event)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<RetryOutcome, Unapplied> {
        let Self { org, endpoint, event, at: now, only_dead, trigger } = *self;
        let again = Again { org, endpoint, event, at: now, trigger };
        let lives = change.state.endpoints.get(endpoint)?.is_some_and(|row| row.org == org);
        let Some(at) = change.locate(org, event)?.filter(|_| lives) else {
            return Ok(RetryOutcome::NotFound);
        };
        if let Some(since) = change.erased_at(org, at)? {
            return Ok(RetryOutcome::Erased { at: since });
        }
        if let Some(row) = change.state.deliveries.get((endpoint, event))? {
            match row.state {
                DeliveryState::Waiting(_) | DeliveryState::Canceled if only_dead => {
                    return Ok(RetryOutcome::NotFound);
                }
                DeliveryState::Waiting(due_at) => hurry(change, again, due_at)?,
                DeliveryState::Dead(_, dead_at) => change.repeat_dead(again, at, &row, dead_at)?,
                DeliveryState::Canceled => change.wait_again(again, at, &row)?,
            }
        } else if only_dead {
            return Ok(RetryOutcome::NotFound);
        } else if change.state.is_pending(endpoint, at)? {
            change.effects.due.push((endpoint, Look::Now, event));
        } else if !change.repeat_accepted(again, at)? {
            return Ok(RetryOutcome::NotFound);
        }
        Ok(RetryOutcome::Queued)
    }
}

/// Makes a waiting delivery due now at the latest. A delivery that was due anyway keeps its
/// trigger.
fn hurry(change: &mut Change<'_>, again: Again, due_at: Timestamp) -> Result<(), StateError> {
    let Again { endpoint, event, at: now, trigger, .. } = again;
    if now < due_at {
        change.state.due.remove((endpoint, due_at, event));
        change.state.due.put((endpoint, now, event), DueRow);
        let row = change.state.deliveries.edit_promised((endpoint, event))?;
        (row.state, row.trigger) = (DeliveryState::Waiting(now), trigger);
    }
    change.effects.due.push((endpoint, Look::At(due_at.min(now)), event));
    Ok(())
}
