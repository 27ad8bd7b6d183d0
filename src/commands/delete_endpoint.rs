//! Command: deletes an endpoint.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::audit::Changing;
use crate::model::id::{EndpointId, OrgNo};
use crate::model::key::Scope;
use crate::store::{Change, Unapplied};

/// Deletes an endpoint. Past deliveries stay; waiting deliveries are canceled later, see
/// [`super::CancelDeliveries`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteEndpoint {
    /// The organization of the endpoint.
    pub org: OrgNo,
    /// The endpoint to be deleted.
    pub endpoint: EndpointId,
}

/// The outcome of [`DeleteEndpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteEndpointOutcome {
    /// The endpoint is deleted.
    Deleted,
    /// The organization has no such endpoint.
    NotFound,
}

impl Kind for DeleteEndpoint {
    const NUMBER: u8 = 6;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Key(Scope::EndpointsWrite);

    const IS_AUDITED: bool = true;

    type Outcome = DeleteEndpointOutcome;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::Endpoint(self.endpoint)]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<DeleteEndpointOutcome, Unapplied> {
        let (org, endpoint) = (self.org, self.endpoint);
        let Some(row) = change.state.orgs.edit(org)? else {
            return Ok(DeleteEndpointOutcome::NotFound);
        };
        let before = row.endpoints.len();
        row.endpoints.retain(|id| *id != endpoint);
        if row.endpoints.len() == before {
            return Ok(DeleteEndpointOutcome::NotFound);
        }
        change.end_endpoint(org, endpoint)?;
        Ok(DeleteEndpointOutcome::Deleted)
    }
}
