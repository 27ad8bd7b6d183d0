//! Command: begins the deletion of an organization.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::audit::Changing;
use crate::model::id::{OrgNo, ReplayId};
use crate::model::org::OrgDeletion;
use crate::model::replay::REPLAYS_REMEMBERED;
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Begins the deletion of an organization, which cannot be undone. Its keys, endpoints and replays
/// end at once, so nobody acts for it any more. Its events leave later, a bounded number for each
/// [`super::ExpireEvents`], and the rest with [`super::ForgetOrg`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteOrg {
    /// The organization to be deleted.
    pub org: OrgNo,
    /// The time of the request.
    pub at: Timestamp,
}

/// Approximate number of rows of the keys and endpoints of a large organization.
const ROWS: usize = 4_096;

/// The outcome of [`DeleteOrg`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOrgOutcome {
    /// The organization is being deleted, by this command or an earlier one.
    Deleting,
    /// There is no such organization.
    NotFound,
}

impl Kind for DeleteOrg {
    const NUMBER: u8 = 33;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Operator;

    const IS_AUDITED: bool = true;

    type Outcome = DeleteOrgOutcome;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::Organization]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn weight(&self) -> usize {
        ROWS
    }

    fn at(&self) -> Option<Timestamp> {
        Some(self.at)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<DeleteOrgOutcome, Unapplied> {
        let org = self.org;
        let Some(row) = change.state.orgs.get(org)? else { return Ok(DeleteOrgOutcome::NotFound) };
        if row.deletion.is_some() {
            return Ok(DeleteOrgOutcome::Deleting);
        }
        for key in &row.keys {
            change.state.keys.remove(*key);
        }
        for endpoint in &row.endpoints {
            change.end_endpoint(org, *endpoint)?;
        }
        let all = (org, ReplayId(0))..=(org, ReplayId(u128::MAX));
        for (replay, _) in change.state.replays.range(all, REPLAYS_REMEMBERED)? {
            change.state.replays.remove(replay);
            change.state.running.remove(replay);
        }
        let events = change.state.inboxes.get(org)?.map_or(0, |inbox| inbox.events);
        let row = change.state.orgs.edit_promised(org)?;
        (row.keys, row.endpoints, row.suspended_at) = (Vec::new(), Vec::new(), None);
        row.deletion = Some(OrgDeletion { at: self.at, events });
        Ok(DeleteOrgOutcome::Deleting)
    }
}
