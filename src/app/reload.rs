//! A reload: applies a new configuration to a running server, as far as this is possible without a
//! restart.

use super::App;
use crate::commands::NoteAudit;
use crate::config::{Change, Config};
use crate::delivery::sender::SenderError;
use crate::logging;
use crate::model::audit::{Action, Actor, AuditEntry, Changed, Note, Subject};
use crate::model::time::Timestamp;

/// Makes the entry of the audit log. The committer sets its time.
fn entry(changed: &[Change]) -> AuditEntry {
    let shown = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    let properties = changed.iter().map(|change| Changed {
        field: change.key.clone(),
        before: shown(&change.was),
        after: shown(&change.is),
    });
    AuditEntry {
        at: Timestamp(0),
        actor: Actor::Operator,
        origin: None,
        organization: None,
        note: Note {
            action: Action::ConfigurationReloaded,
            subject: Subject::Configuration,
            changes: properties.collect(),
        },
    }
}

/// The result of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Changes in effect from now on.
    pub changed: Vec<Change>,
    /// Changes waiting for a restart.
    pub needs_restart: Vec<Change>,
}

impl App {
    /// Applies the changes possible in a running server: tiers, retention, limits of deliveries,
    /// networks, the level of the log. Requests and attempts under way finish by the old
    /// configuration.
    ///
    /// # Errors
    /// If no sender can be made from the new configuration. Then nothing has changed.
    pub fn reload(&mut self, new: &Config) -> Result<Reloaded, SenderError> {
        let mut taken = self.config.reloaded(new);
        // The scheduler's queue has kept its size since the start, which bounds `max_in_flight`.
        taken.delivery.max_in_flight =
            taken.delivery.max_in_flight.min(self.sending.in_flight_max());
        let per_org = &mut taken.delivery.max_in_flight_per_org;
        *per_org = (*per_org).min(taken.delivery.max_in_flight);
        let per_endpoint = &mut taken.delivery.max_in_flight_per_endpoint;
        *per_endpoint = (*per_endpoint).min(taken.delivery.max_in_flight_per_org);
        let (changed, needs_restart) = (self.config.changes(&taken), taken.changes(new));
        if changed.is_empty() {
            return Ok(Reloaded { changed, needs_restart });
        }
        let fitted = super::limits::fitted(&taken, self.descriptors);
        let tester = super::sending::tester(&fitted, &self.sending.lookups)?;
        self.sending.reload(&fitted)?;
        self.api.reload(&fitted, tester);
        self.workers.reload(&fitted);
        logging::set_level(&taken.log.level);
        self.engine.intake.push([NoteAudit::new(entry(&changed))]);
        super::tell_proxies(&taken);
        self.config = std::sync::Arc::new(taken);
        Ok(Reloaded { changed, needs_restart })
    }
}
