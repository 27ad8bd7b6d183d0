//! A reload: what a running server can take over of a new configuration, and what it cannot.

use super::App;
use crate::config::{Change, Config};
use crate::delivery::sender::SenderError;
use crate::logging;

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// What counts from now on.
    pub changed: Vec<Change>,
    /// What counts after a restart only.
    pub needs_restart: Vec<Change>,
}

impl App {
    /// Takes over what it can: tiers, limits of deliveries, networks, the level of the log. Requests and attempts that are
    /// under way go on as they began.
    ///
    /// # Errors
    /// When webhooks could not be sent with it. Then nothing has changed.
    pub fn reload(&mut self, new: &Config) -> Result<Reloaded, SenderError> {
        let mut taken = self.config.reloaded(new);
        // What waits for the scheduler has the room that it was given at the start.
        taken.delivery.max_in_flight = taken.delivery.max_in_flight.min(self.sending.in_flight_max());
        let per_org = &mut taken.delivery.max_in_flight_per_org;
        *per_org = (*per_org).min(taken.delivery.max_in_flight);
        let per_endpoint = &mut taken.delivery.max_in_flight_per_endpoint;
        *per_endpoint = (*per_endpoint).min(taken.delivery.max_in_flight_per_org);
        let (changed, needs_restart) = (self.config.changes(&taken), taken.changes(new));
        if changed.is_empty() {
            return Ok(Reloaded { changed, needs_restart });
        }
        let fitted = super::limits::fitted(&taken, self.descriptors);
        let tester = super::sending::tester(&fitted)?;
        self.sending.reload(&fitted)?;
        self.api.reload(&fitted, tester);
        logging::set_level(&taken.log.level);
        self.config = std::sync::Arc::new(taken);
        Ok(Reloaded { changed, needs_restart })
    }
}
