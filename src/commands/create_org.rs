//! Command: creates an organization, with or without its first key.

use serde::{Deserialize, Serialize};

use super::codec::only_current;
use super::{AskedBy, Command, Draft, Drafted, Kind, Stamp, UnknownRecord};
use crate::base::codec::{CodecError, decode, encode_into};
use crate::model::audit::Changing;
use crate::model::id::{KeyId, OrgId, OrgNo};
use crate::model::key::Key;
use crate::model::org::Org;
use crate::model::time::Timestamp;
use crate::store::rows::schema::OrgRow;
use crate::store::{Change, KeyAdded, StateError, Unapplied};

/// Creates an organization, and its first key if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOrg {
    /// The number of the organization, given by the committer. No command in the journal names the
    /// number before this one. Numbers may have gaps.
    pub number: OrgNo,
    /// The organization to be created.
    pub org: Org,
    /// The organization's first key, if it gets one at once.
    pub key: Option<Key>,
}

/// An organization that is to be created.
#[derive(Clone, Debug)]
pub struct OrgDraft(CreateOrg);

impl OrgDraft {
    /// Creates a draft of an organization and its first key.
    pub fn new(org: Org, key: Option<Key>) -> Self {
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
    const VERSION: u8 = 3;
    const ASKED_BY: AskedBy = AskedBy::Operator;

    const IS_AUDITED: bool = true;

    type Outcome = CreateOrgOutcome;

    fn audited(&self) -> Vec<Changing> {
        let key = self.key.as_ref().map(|key| Changing::Key(key.id));
        [Changing::Organization].into_iter().chain(key).collect()
    }

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn made_org(&self) -> Option<OrgNo> {
        Some(self.number)
    }

    fn made_key(&self) -> Option<KeyId> {
        self.key.as_ref().map(|key| key.id)
    }

    fn at(&self) -> Option<Timestamp> {
        Some(self.org.created_at)
    }

    fn stamp(&mut self, stamp: &mut impl Stamp) {
        self.number = stamp.next_org();
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_into(self, out)
    }

    /// In version 2, every organization got a key.
    fn read(version: u8, body: &[u8]) -> Result<Self, UnknownRecord> {
        if version == 2 {
            let (number, org, key) = decode::<(OrgNo, Org, Key)>(body)?;
            return Ok(Self { number, org, key: Some(key) });
        }
        only_current::<Self>(version)?;
        Ok(decode(body)?)
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
            suspended_at: None,
            mode_since: None,
            deletion: None,
        };
        change.state.orgs.put(number, row);
        change.note_id(self.org.id.0)?;
        if let Some(key) = &self.key
            && change.add_key(number, key, None)? != KeyAdded::Added
        {
            return Err(
                StateError::Invariant("a new organization has room for its first key").into()
            );
        }
        Ok(CreateOrgOutcome::Created(number))
    }
}
