//! Deleted organizations: nothing of them is left but their events' dedup ids.

use triggerd::commands::DeleteOrgOutcome;
use triggerd::model::id::OrgNo;

use super::{Deletion, Naive};

impl Naive {
    pub(super) fn expected_of_deletion(&self, org: OrgNo) -> DeleteOrgOutcome {
        match self.org(org).map(|org| org.deletion) {
            None | Some(Deletion::Over) => DeleteOrgOutcome::NotFound,
            Some(Deletion::NotAsked | Deletion::UnderWay) => DeleteOrgOutcome::Deleting,
        }
    }

    /// Ends the keys, the endpoints and the replays at once.
    pub(super) fn delete_org(&mut self, org: OrgNo) {
        let Some(org) = self.org_mut(org) else { return };
        (org.deletion, org.is_suspended) = (Deletion::UnderWay, false);
        org.keys.clear();
        org.used.clear();
        org.endpoints.clear();
        org.replays.clear();
        org.failing.clear();
        org.failing_told.clear();
    }

    /// Forgets an organization without events.
    pub(crate) fn forget_org(&mut self, org: OrgNo) {
        self.forget_audit_of(org);
        if let Some(org) = self.org_mut(org) {
            org.deletion = Deletion::Over;
        }
    }
}
