//! The audit log as users see it.

use crate::journal::Position;
use crate::model::audit::{Action, AuditEntry};
use crate::model::id::OrgNo;
use crate::model::time::Timestamp;
use crate::store::{StateError, Store};

/// The place of an entry in the audit log: a journal position, and the number of the entry among
/// those of the same command.
pub type AuditPlace = (Position, u32);

/// The entries that a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only entries of this organization.
    pub org: Option<OrgNo>,
    /// Only changes at or after this time.
    pub since: Option<Timestamp>,
    /// Only changes before this time.
    pub until: Option<Timestamp>,
    /// Only changes of this kind.
    pub action: Option<Action>,
}

/// A part of the audit log, the newest entry first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries with their places.
    pub entries: Vec<(AuditPlace, AuditEntry)>,
    /// The place before which the next page begins.
    pub next: AuditPlace,
    /// Set if there may be older entries.
    pub has_more: bool,
}

/// Number of entries that are read at once.
const ENTRIES_AT_ONCE: usize = 256;

impl AuditQuery {
    fn wants(&self, entry: &AuditEntry) -> bool {
        self.since.is_none_or(|since| since <= entry.at)
            && self.until.is_none_or(|until| entry.at < until)
            && self.action.is_none_or(|action| action == entry.action)
    }
}

impl Store {
    /// Returns at most `limit` entries before a place, the newest first. Looks at a bounded number
    /// of entries, so a page can be short although there are more.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn audit(
        &self,
        query: &AuditQuery,
        before: AuditPlace,
        limit: usize,
    ) -> Result<AuditPage, StateError> {
        let state = self.read();
        let places: Vec<AuditPlace> = match query.org {
            Some(org) => {
                let older = (org, Position(0), 0)..=(org, before.0, before.1);
                let rows = state.audit_of.range_back(older, ENTRIES_AT_ONCE)?;
                rows.into_iter().map(|((_, position, number), _)| (position, number)).collect()
            }
            None => {
                let rows = state.audit.range_back((Position(0), 0)..=before, ENTRIES_AT_ONCE)?;
                rows.into_iter().map(|(place, _)| place).collect()
            }
        };
        let mut has_more = places.len() == ENTRIES_AT_ONCE;
        let (mut entries, mut next) = (Vec::new(), before);
        for place in places.into_iter().filter(|place| *place != before) {
            if entries.len() == limit {
                has_more = true;
                break;
            }
            next = place;
            let row = state.audit.promised(place)?;
            if query.wants(&row.entry) {
                entries.push((place, row.entry.clone()));
            }
        }
        Ok(AuditPage { entries, next, has_more })
    }

    /// Returns true if the oldest entry of the audit log is from before this time.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn has_expired_audit(&self, before: Timestamp) -> Result<bool, StateError> {
        let all = (Position(0), 0)..=(Position::MAX, u32::MAX);
        let oldest = self.read().audit.range(all, 1)?;
        Ok(oldest.first().is_some_and(|(_, row)| row.entry.at < before))
    }
}
