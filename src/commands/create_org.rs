//! Command: creates an organization and its first key.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Command, Draft, Drafted, Kind, Stamp, plain_body};
use crate::model::audit::Subject;
use crate::model::id::{KeyId, OrgId, OrgNo};
use crate::model::key::Key;
use crate::model::org::Org;
use crate::model::time::Timestamp;
use crate::store::rows::schema::OrgRow;
use crate::store::{Change, KeyAdded, StateError, Unapplied};

/// Creates an organization and its first key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOrg {
    /// The number of the organization, given by the committer. No command in the journal names the
    /// number before this one. Numbers may have gaps.
    pub number: OrgNo,
    /// The organization to be created.
    pub org: Org,
    /// The organization's first key.
    pub key: Key,
}

/// An organization that is to be created.
#[derive(Clone, Debug)]
pub struct OrgDraft(CreateOrg);

impl OrgDraft {
    /// Creates a draft of an organization and its first key.
    pub fn new(org: Org, key: Key) -> Self {
        Self(CreateOrg { number: OrgNo(0), org, key })
    }
}

impl Drafted for OrgDraft {
    type Kind = CreateOrg;
}

impl From<OrgDraft> for Draft {
    fn from(draft: OrgDraft) -> Self {
        Command::from(draft.0).into()
    }
}

/// The outcome of [`CreateOrg`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateOrgOutcome {
    /// The organization was created with this number.
    Created(OrgNo),
    /// Nothing was created, because this organization has the name.
    NameTaken(OrgId),
}

impl Kind for CreateOrg {
    const NUMBER: u8 = 1;
    const VERSION: u8 = 2;
    const ASKED_BY: AskedBy = AskedBy::Operator;

    const IS_AUDITED: bool = true;

    type Outcome = CreateOrgOutcome;

    plain_body!();

    fn audited(&self) -> Vec<Subject> {
        vec![Subject::Organization(self.org.id), Subject::Key(self.key.id)]
    }

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn made_org(&self) -> Option<OrgNo> {
        Some(self.number)
    }

    fn made_key(&self) -> Option<KeyId> {
        Some(self.key.id)
    }

    fn at(&self) -> Option<Timestamp> {
        Some(self.org.created_at)
    }

    fn stamp(&mut self, stamp: &mut impl Stamp) {
        self.number = stamp.next_org();
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<CreateOrgOutcome, Unapplied> {
        let number = self.number;
        let meta = change.meta()?;
        meta.next_org = meta.next_org.max(number.0.saturating_add(1));
        if let Some(existing) = change.state.org_names.get(&self.org.name) {
            return Ok(CreateOrgOutcome::NameTaken(*existing));
        }
        if change.state.orgs.get(number)?.is_some() {
            return Err(StateError::Invariant("the number of an organization is given once").into());
        }
        change.state.org_names.insert(self.org.name.clone(), self.org.id);
        let row = OrgRow {
            org: self.org.clone(),
            keys: Vec::new(),
            endpoints: Vec::new(),
            next_endpoint: 1,
        };
        change.state.orgs.put(number, row);
        change.note_id(self.org.id.0)?;
        if change.add_key(number, &self.key, None)? != KeyAdded::Added {
            return Err(
                StateError::Invariant("a new organization has room for its first key").into()
            );
        }
        Ok(CreateOrgOutcome::Created(number))
    }
}
