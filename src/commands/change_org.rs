//! Command: changes the settings of an organization, or suspends it.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::audit::Changing;
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::model::org::{InboxMode, Tier};
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Changes the named settings of an organization; the others stay. A new inbox mode judges what is
/// settled from now on, and moves no event that is in the inbox or has left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeOrg {
    /// The organization to be changed.
    pub org: OrgNo,
    /// The new name. No other organization has it.
    pub name: Option<String>,
    /// The new tier.
    pub tier: Option<Tier>,
    /// The new rule by which events leave the inbox.
    pub inbox_mode: Option<InboxMode>,
    /// True suspends the organization, and false ends the suspension: its keys change nothing
    /// meanwhile, and its deliveries wait.
    pub suspended: Option<bool>,
    /// The time of the request.
    pub at: Timestamp,
}

/// The outcome of [`ChangeOrg`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOrgOutcome {
    /// The organization has the new settings.
    Changed,
    /// Nothing was changed, because this other organization has the name.
    NameTaken(OrgId),
    /// There is no such organization.
    NotFound,
}

impl Kind for ChangeOrg {
    const NUMBER: u8 = 28;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Operator;

    const IS_AUDITED: bool = true;

    type Outcome = ChangeOrgOutcome;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::Organization]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn at(&self) -> Option<Timestamp> {
        Some(self.at)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<ChangeOrgOutcome, Unapplied> {
        let Some(known) = change.state.living_org(self.org)? else {
            return Ok(ChangeOrgOutcome::NotFound);
        };
        let id = known.org.id;
        if let Some(name) = &self.name {
            if let Some(other) = change.state.org_names.get(name).filter(|other| **other != id) {
                return Ok(ChangeOrgOutcome::NameTaken(*other));
            }
            change.state.org_names.remove(&known.org.name);
            change.state.org_names.insert(name.clone(), id);
        }
        let newest = EventId(change.state.meta.get(())?.map_or(0, |meta| meta.last_id));
        let row = change.state.orgs.edit_promised(self.org)?;
        if let Some(name) = &self.name {
            row.org.name.clone_from(name);
        }
        row.org.tier = self.tier.unwrap_or(row.org.tier);
        if let Some(mode) = self.inbox_mode.filter(|mode| *mode != row.org.inbox_mode) {
            (row.org.inbox_mode, row.mode_since) = (mode, Some(newest));
        }
        match self.suspended {
            Some(true) => row.suspended_at = row.suspended_at.or(Some(self.at)),
            Some(false) => row.suspended_at = None,
            None => {}
        }
        if row.suspended_at.is_some() != known.suspended_at.is_some() {
            // The deliveries to its endpoints wait from now on, or go on.
            change.effects.endpoints_changed.extend(&known.endpoints);
        }
        Ok(ChangeOrgOutcome::Changed)
    }
}
