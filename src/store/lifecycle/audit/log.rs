//! Contradictions between the tables of the audit log.

use super::{Audit, org_text};
use crate::store::StateError;

impl Audit<'_> {
    /// Requires each entry of an organization to be listed as its own, in the order of the
    /// ordinals.
    pub(super) fn audit_log(&mut self) -> Result<(), StateError> {
        let state = self.state;
        for row in state.audit.all() {
            let ((position, number), row) = row?;
            let Some(org) = row.org else { continue };
            let is_listed = state.audit_of.get((org, position, number))?.is_some();
            self.require(is_listed, || {
                let of = org_text(state, org);
                format!("the audit entry {number} at {position} is not listed by {of}")
            });
        }
        let mut before = None;
        for row in state.audit_of.all() {
            let ((org, position, number), row) = row?;
            let of = || org_text(state, org);
            let entry = state.audit.get((position, number))?;
            self.require(entry.is_some_and(|entry| entry.org == Some(org)), || {
                format!("{} lists an audit entry {number} at {position} that is not its own", of())
            });
            let is_next =
                before.is_none_or(|(other, ordinal)| other != org || ordinal + 1 == row.ordinal);
            self.require(is_next, || {
                format!("{} lists its audit entry {number} at {position} out of order", of())
            });
            before = Some((org, row.ordinal));
        }
        Ok(())
    }
}
