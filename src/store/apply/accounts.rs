//! Organizations and endpoints.

use std::sync::Arc;

use super::{Change, Outcome, meta};
use crate::model::command::{CreateOrg, DeleteEndpoint, PutEndpoint, SkipOrgs};
use crate::model::id::{ENDPOINT_NUMBER_MAX, EndpointId, OrgNo};
use crate::store::StateError;
use crate::store::schema::{EndedRow, EndpointRow, FormerRow, HealthRow, NumberRow, OrgRow};

/// Most endpoints of an organization.
pub const ENDPOINTS_PER_ORG_MAX: usize = 1_000;

impl Change<'_> {
    pub(super) fn create_org(&mut self, command: &CreateOrg) -> Result<Outcome, StateError> {
        // Also one that is refused uses up a number: an organization's number is its place among all that were to be made,
        // whatever else a damaged journal has lost.
        let meta = meta(self.state)?;
        let number = OrgNo(meta.next_org);
        meta.next_org += 1;
        if let Some(existing) = self.state.org_names.get(&command.org.name) {
            return Ok(Outcome::OrgExists(*existing));
        }
        self.state.org_names.insert(command.org.name.clone(), command.org.id);
        let row = OrgRow { org: command.org.clone(), keys: Vec::new(), endpoints: Vec::new(), next_endpoint: 1 };
        self.state.orgs.put(number, row);
        self.note_id(command.org.id.0)?;
        self.add_key(number, &command.key, None)?;
        Ok(Outcome::OrgCreated(number))
    }

    pub(super) fn skip_orgs(&mut self, command: &SkipOrgs) -> Result<Outcome, StateError> {
        let meta = meta(self.state)?;
        meta.next_org = meta.next_org.saturating_add(command.count);
        meta.judged_before = meta.judged_before.max(command.judged_before);
        meta.lost_keys.extend(&command.lost_keys);
        meta.lost_keys.sort_unstable();
        meta.lost_keys.dedup();
        Ok(Outcome::Done)
    }

    pub(super) fn put_endpoint(&mut self, command: &PutEndpoint) -> Result<Outcome, StateError> {
        let endpoint = &command.endpoint;
        let Some(org) = self.state.orgs.get(command.org)? else { return Ok(Outcome::NotFound) };
        let known = self.state.endpoints.get(endpoint.id)?;
        let was = known.as_ref().and_then(|known| known.endpoint.disabled);
        let number = match known {
            Some(known) if known.org == command.org => known.number,
            Some(_) => return Ok(Outcome::NotFound),
            // One that has ended stays ended, whoever was about to change it.
            None if self.state.former.get(endpoint.id)?.is_some() => return Ok(Outcome::NotFound),
            None if org.endpoints.len() >= ENDPOINTS_PER_ORG_MAX => return Ok(Outcome::LimitReached),
            None => self.give_number(command.org, &org, endpoint.id)?,
        };
        let mut endpoint = endpoint.clone();
        let is_new = self.state.health.get(endpoint.id)?.is_none();
        if !command.sets_enabled && !is_new {
            endpoint.disabled = was;
        }
        let health = self.state.health.edit_or_insert(endpoint.id, HealthRow::default)?;
        if was.is_some() && endpoint.is_enabled() {
            health.failing_since = None; // what it is judged by begins anew
        }
        let row = EndpointRow { org: command.org, number, endpoint: Arc::new(endpoint.clone()) };
        self.state.endpoints.put(endpoint.id, row);
        self.effects.endpoints_changed.push(endpoint.id);
        self.note_id(endpoint.id.0)?;
        Ok(Outcome::Done)
    }

    /// Takes a new endpoint into the organization's list, under a number that no living one has: the next one, or, when
    /// they are used up, the first that is free again.
    fn give_number(&mut self, org: OrgNo, row: &OrgRow, endpoint: EndpointId) -> Result<u32, StateError> {
        let mut number = row.next_endpoint;
        if number > ENDPOINT_NUMBER_MAX {
            let mut taken = Vec::with_capacity(row.endpoints.len());
            for id in &row.endpoints {
                taken.extend(self.state.endpoints.get(*id)?.map(|row| row.number));
            }
            number = (1..=ENDPOINT_NUMBER_MAX).find(|number| !taken.contains(number)).unwrap_or(ENDPOINT_NUMBER_MAX);
            if let Some(before) = self.state.numbers.get((org, number))? {
                if let Some(former) = self.state.former.get(before.0)? {
                    self.state.ended.remove((org, former.ended, number));
                }
                self.state.former.remove(before.0);
            }
        }
        if let Some(row) = self.state.orgs.edit(org)? {
            row.next_endpoint = row.next_endpoint.max(number.saturating_add(1));
            row.endpoints.push(endpoint);
        }
        self.state.numbers.put((org, number), NumberRow(endpoint));
        Ok(number)
    }

    pub(super) fn delete_endpoint(&mut self, command: &DeleteEndpoint) -> Result<Outcome, StateError> {
        let Some(row) = self.state.orgs.edit(command.org)? else { return Ok(Outcome::NotFound) };
        let before = row.endpoints.len();
        row.endpoints.retain(|id| *id != command.endpoint);
        if row.endpoints.len() == before {
            return Ok(Outcome::NotFound);
        }
        if let Some(ended) = self.state.endpoints.get(command.endpoint)? {
            let former = FormerRow { org: command.org, number: ended.number, ended: self.position };
            self.state.former.insert_new(command.endpoint, former);
            self.state.ended.insert_new((command.org, self.position, ended.number), EndedRow(command.endpoint));
        }
        self.state.endpoints.remove(command.endpoint);
        self.state.health.remove(command.endpoint);
        self.effects.endpoints_changed.push(command.endpoint);
        Ok(Outcome::Done)
    }
}
