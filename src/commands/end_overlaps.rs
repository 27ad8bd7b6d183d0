//! Command: ends overlaps of rotated secrets.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::endpoint::Endpoint;
use crate::model::id::{EndpointId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Removes rotated secrets whose overlap is over, so that a clock set back does not revive them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndOverlaps {
    /// The endpoints, a bounded number per command. A secret that still signs is left alone.
    pub endpoints: Vec<EndpointId>,
    /// The steady time by which the overlaps are judged.
    pub at: Timestamp,
}

impl Kind for EndOverlaps {
    const NUMBER: u8 = 27;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn weight(&self) -> usize {
        self.endpoints.len()
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        change.note_steady(self.at)?;
        for id in &self.endpoints {
            let Some(row) = change.state.endpoints.get(*id)? else { continue };
            if row.endpoint.has_ended_overlap(self.at) {
                let mut endpoint = Endpoint::clone(&row.endpoint);
                endpoint.end_overlaps(self.at);
                change.state.endpoints.edit_promised(*id)?.endpoint = Arc::new(endpoint);
                change.effects.endpoints_changed.push(*id);
            }
        }
        Ok(())
    }
}
