//! Command: forgets deleted endpoints that no event can name, and replays that ended long ago.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::journal::Position;
use crate::model::id::OrgNo;
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Forgets a bounded number of an organization's endpoints that were deleted before its oldest
/// event came, and its replays that ended before a time. A change of an endpoint that was asked for
/// before its deletion may come after it, so endpoints are remembered for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetDeleted {
    /// The organization of the endpoints and the replays.
    pub org: OrgNo,
    /// The time before which a replay must have ended.
    pub before: Timestamp,
    /// The position before which an endpoint must have been deleted.
    pub deleted_before: Position,
}

impl Kind for ForgetDeleted {
    const NUMBER: u8 = 26;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        let Self { org, before, deleted_before } = *self;
        let forgettable = change.forgettable(org, (before, deleted_before))?;
        for endpoint in forgettable.endpoints {
            change.forget_endpoint(org, endpoint);
        }
        for replay in forgettable.replays {
            change.state.replays.remove((org, replay));
        }
        Ok(())
    }
}
