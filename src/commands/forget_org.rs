//! Command: forgets an organization that is being deleted and has no event any more.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::journal::Position;
use crate::model::id::{EventId, OrgNo};
use crate::store::{Change, StateError, Unapplied};

/// Forgets a bounded number of an organization's deleted endpoints and entries of the audit log,
/// and the organization itself when nothing else of it is left. From then on, compaction removes
/// every record of the organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetOrg {
    /// The organization to be forgotten.
    pub org: OrgNo,
}

/// Maximum number of endpoints, and of entries of the audit log, that one command forgets.
const FORGOTTEN_MAX: usize = 256;

/// The outcome of [`ForgetOrg`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgetOrgOutcome {
    /// Nothing of the organization is left.
    Forgotten,
    /// Something was forgotten, and there is more.
    More,
    /// Nothing was changed, because the organization has events.
    HasEvents,
    /// No such organization is being deleted.
    NotFound,
}

impl Kind for ForgetOrg {
    const NUMBER: u8 = 34;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ForgetOrgOutcome;

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn weight(&self) -> usize {
        FORGOTTEN_MAX
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<ForgetOrgOutcome, Unapplied> {
        let org = self.org;
        let row = change.state.orgs.get(org)?.filter(|row| row.deletion.is_some());
        let Some(row) = row else { return Ok(ForgetOrgOutcome::NotFound) };
        let events = (org, EventId(0))..=(org, EventId(u128::MAX));
        if !change.state.events.range(events, 1)?.is_empty() {
            return Ok(ForgetOrgOutcome::HasEvents);
        }
        if self.forget_endpoints(change)? || self.forget_audit(change)? {
            return Ok(ForgetOrgOutcome::More);
        }
        change.state.org_names.remove(&row.org.name);
        change.state.inboxes.remove(org);
        change.state.orgs.remove(org);
        let position = change.position;
        change.meta()?.forgot_at = Some(position);
        change.effects.unneeded.push(position);
        Ok(ForgetOrgOutcome::Forgotten)
    }
}

impl ForgetOrg {
    /// Forgets deleted endpoints. Returns false if there is none.
    fn forget_endpoints(&self, change: &mut Change<'_>) -> Result<bool, StateError> {
        let all = (self.org, Position(0), 0)..=(self.org, Position::MAX, u32::MAX);
        let ended = change.state.ended.range(all, FORGOTTEN_MAX)?;
        for ((_, at, number), row) in &ended {
            change.forget_endpoint(self.org, (row.0, *at, *number));
        }
        Ok(!ended.is_empty())
    }

    /// Forgets entries of the audit log. Returns false if there is none.
    fn forget_audit(&self, change: &mut Change<'_>) -> Result<bool, StateError> {
        let all = (self.org, Position(0), 0)..=(self.org, Position::MAX, u32::MAX);
        let entries = change.state.audit_of.range(all, FORGOTTEN_MAX)?;
        for ((org, position, number), _) in &entries {
            change.remove_audit((*position, *number), Some(*org));
        }
        Ok(!entries.is_empty())
    }
}
