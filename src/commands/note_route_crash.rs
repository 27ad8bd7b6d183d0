//! Command: notes that routing an event crashed.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::event::EventStatus;
use crate::model::id::{EventId, OrgNo};
use crate::model::routing::RoutingEnd;
use crate::store::change::UNROUTED_IS_STORED;
use crate::store::{Change, Unapplied};

/// Notes that the worker crashed while routing an event. After three crashes the event is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRouteCrash {
    /// The organization of the event.
    pub org: OrgNo,
    /// The event that was being routed.
    pub event: EventId,
}

/// Number of crashes after which an event is given up.
const CRASHES_MAX: u8 = 3;

impl Kind for NoteRouteCrash {
    const NUMBER: u8 = 10;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn event(&self) -> Option<EventId> {
        Some(self.event)
    }

    fn into_routing_end(self) -> Option<RoutingEnd> {
        Some(RoutingEnd::Failed)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        let key = (self.org, self.event);
        let Some(row) = change.state.unrouted.edit(key)? else { return Ok(()) };
        row.crashes += 1;
        if row.crashes < CRASHES_MAX {
            return Ok(());
        }
        change.state.unrouted.remove(key);
        let address = change.locate(self.org, self.event)?.ok_or(UNROUTED_IS_STORED)?;
        let position = change.position;
        change.edit_event(self.org, address, |entry| {
            (entry.status, entry.routed) = (EventStatus::Dead, Some(position));
            Ok(())
        })?;
        Ok(())
    }
}
