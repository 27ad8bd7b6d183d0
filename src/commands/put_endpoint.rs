//! Command: creates or changes an endpoint.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::audit::Changing;
use crate::model::endpoint::Endpoint;
use crate::model::id::{ENDPOINT_NUMBER_MAX, EndpointId, OrgNo};
use crate::model::key::Scope;
use crate::store::rows::schema::{EndpointRow, HealthRow, NumberRow, OrgRow};
use crate::store::{Change, StateError, Unapplied};
use std::sync::Arc;

/// Creates or changes an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutEndpoint {
    /// The organization of the endpoint.
    pub org: OrgNo,
    /// The new value of the endpoint.
    pub endpoint: Endpoint,
    /// Set when the command also enables or disables the endpoint. Otherwise the endpoint stays as
    /// it is, because a receiver may have disabled it since the request read it.
    pub sets_enabled: bool,
}

/// Maximum number of endpoints of an organization.
pub const ENDPOINTS_PER_ORG_MAX: usize = 1_000;

/// The outcome of [`PutEndpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutEndpointOutcome {
    /// The endpoint has the new value.
    Put,
    /// The organization does not exist, or the endpoint was deleted or belongs to another
    /// organization.
    NotFound,
    /// The organization has [`ENDPOINTS_PER_ORG_MAX`] endpoints.
    LimitReached,
}

impl Kind for PutEndpoint {
    const NUMBER: u8 = 5;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Key(Scope::EndpointsWrite);

    const IS_AUDITED: bool = true;

    type Outcome = PutEndpointOutcome;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::Endpoint(self.endpoint.id)]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<PutEndpointOutcome, Unapplied> {
        let Some(org) = change.state.living_org(self.org)? else {
            return Ok(PutEndpointOutcome::NotFound);
        };
        let mut endpoint = self.endpoint.clone();
        let known = change.state.endpoints.get(endpoint.id)?;
        let was = known.as_ref().and_then(|known| known.endpoint.disabled);
        let (number, made) = match known {
            Some(known) if known.org == self.org => (known.number, known.made),
            Some(_) => return Ok(PutEndpointOutcome::NotFound),
            // A deleted endpoint is not made again by a late change.
            None if change.state.tombstones.get(endpoint.id)?.is_some() => {
                return Ok(PutEndpointOutcome::NotFound);
            }
            None if org.endpoints.len() >= ENDPOINTS_PER_ORG_MAX => {
                return Ok(PutEndpointOutcome::LimitReached);
            }
            None => (give_number(change, self.org, &org, endpoint.id)?, change.position),
        };
        let is_new = change.state.health.get(endpoint.id)?.is_none();
        if !self.sets_enabled && !is_new {
            endpoint.disabled = was;
        }
        let health = change.state.health.edit_or_insert(endpoint.id, HealthRow::default)?;
        if was.is_some() && endpoint.is_enabled() {
            // Enabling starts a new period of judgement.
            (health.failing_since, health.failing_from) = (None, None);
        }
        let id = endpoint.id;
        let row = EndpointRow { org: self.org, number, made, endpoint: Arc::new(endpoint) };
        change.state.endpoints.put(id, row);
        change.effects.endpoints_changed.push(id);
        change.note_id(id.0)?;
        Ok(PutEndpointOutcome::Put)
    }
}

/// Adds a new endpoint to the organization's list, under a number that no living endpoint has: the
/// next number, or, when they are used up, the lowest free one.
fn give_number(
    change: &mut Change<'_>,
    org: OrgNo,
    row: &OrgRow,
    endpoint: EndpointId,
) -> Result<u32, StateError> {
    let mut number = row.next_endpoint;
    if number > ENDPOINT_NUMBER_MAX {
        let mut taken = Vec::with_capacity(row.endpoints.len());
        for id in &row.endpoints {
            taken.push(change.state.endpoints.promised(*id)?.number);
        }
        number = (1..=ENDPOINT_NUMBER_MAX)
            .find(|number| !taken.contains(number))
            .ok_or(StateError::Invariant("there are more numbers than endpoints"))?;
        if let Some(before) = change.state.numbers.get((org, number))? {
            if let Some(tombstone) = change.state.tombstones.get(before.0)? {
                change.state.ended.remove((org, tombstone.ended, number));
            }
            change.state.tombstones.remove(before.0);
        }
    }
    let row = change.state.orgs.edit_promised(org)?;
    row.next_endpoint = row.next_endpoint.max(number.saturating_add(1));
    row.endpoints.push(endpoint);
    change.state.numbers.put((org, number), NumberRow(endpoint));
    Ok(number)
}
