//! Deliveries to an endpoint that is no more.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::store::{Change, Unapplied};

/// Calls off deliveries that wait for an endpoint that was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelDeliveries {
    /// The organization.
    pub org: OrgNo,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The events, a bounded number at a time.
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
