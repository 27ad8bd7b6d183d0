//! A dead letter that is not to be tried any more.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::key::Scope;
use crate::store::{Change, Unapplied};

/// Drops a dead letter: it is one no more, and is not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropDead {
    /// The organization.
    pub org: OrgNo,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The event.
    pub event: EventId,
}

/// The outcome of [`DropDead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropOutcome {
    /// The delivery is no dead letter any more.
    Dropped,
    /// There is no such dead letter.
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
