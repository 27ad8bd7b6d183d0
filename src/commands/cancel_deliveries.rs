//! Command: cancels deliveries to a deleted endpoint.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::store::{Change, Unapplied};

/// Cancels deliveries waiting for a deleted endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelDeliveries {
    /// The organization of the endpoint.
    pub org: OrgNo,
    /// The endpoint that was deleted.
    pub endpoint: EndpointId,
    /// The events of the deliveries, a bounded number per command.
    pub events: Vec<EventId>,
}

impl Kind for CancelDeliveries {
    const NUMBER: u8 = 12;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn weight(&self) -> usize {
        self.events.len()
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        for event in &self.events {
            change.cancel(self.org, self.endpoint, *event)?;
        }
        Ok(())
    }
}
