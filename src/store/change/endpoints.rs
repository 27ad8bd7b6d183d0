//! Endpoints: deleted, and forgotten.

use super::Change;
use crate::journal::Position;
use crate::model::id::{EndpointId, OrgNo};
use crate::store::StateError;
use crate::store::rows::schema::{EndedRow, TombstoneRow};

impl Change<'_> {
    /// Deletes an endpoint that its organization does not list any more. A tombstone stays, because
    /// deliveries name the endpoint.
    pub(crate) fn end_endpoint(
        &mut self,
        org: OrgNo,
        endpoint: EndpointId,
    ) -> Result<(), StateError> {
        let position = self.position;
        if let Some(ended) = self.state.endpoints.get(endpoint)? {
            let tombstone = TombstoneRow { org, number: ended.number, ended: position };
            self.state.tombstones.insert_new(endpoint, tombstone);
            self.state.ended.insert_new((org, position, ended.number), EndedRow(endpoint));
        }
        self.state.endpoints.remove(endpoint);
        self.state.health.remove(endpoint);
        self.effects.endpoints_changed.push(endpoint);
        Ok(())
    }

    /// Forgets a deleted endpoint that no event names; it was deleted at this position, and had
    /// this number.
    pub(crate) fn forget_endpoint(
        &mut self,
        org: OrgNo,
        (endpoint, ended, number): (EndpointId, Position, u32),
    ) {
        self.state.tombstones.remove(endpoint);
        self.state.numbers.remove((org, number));
        self.state.ended.remove((org, ended, number));
    }
}
