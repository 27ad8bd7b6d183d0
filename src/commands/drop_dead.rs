//! Command: drops a dead letter.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::key::Scope;
use crate::store::{Change, Unapplied};

/// Drops a dead letter: the delivery is canceled and will not be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropDead {
    /// The organization of the delivery.
    pub org: OrgNo,
    /// The endpoint of the delivery.
    pub endpoint: EndpointId,
    /// The event of the delivery.
    pub event: EventId,
}

/// The outcome of [`DropDead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropOutcome {
    /// The delivery is no longer a dead letter.
    Dropped,
    /// The organization has no such dead letter.
    NotFound,
}

impl Kind for DropDead {
    const NUMBER: u8 = 17;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Key(Scope::DeliveriesWrite);

    type Outcome = DropOutcome;

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn event(&self) -> Option<EventId> {
        Some(self.event)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<DropOutcome, Unapplied> {
        let was_dead = change.drop_dead(self.org, self.endpoint, self.event)?;
        Ok(if was_dead { DropOutcome::Dropped } else { DropOutcome::NotFound })
    }
}
