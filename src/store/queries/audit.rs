//! The audit log as users see it.

use std::sync::Arc;

use crate::journal::Position;
use crate::model::audit::{Action, AuditEntry};
use crate::model::id::OrgNo;
use crate::model::time::Timestamp;
use crate::store::rows::schema::AuditRow;
use crate::store::rows::state::State;
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
    /// The place behind which the list begins. Absent at its beginning.
    pub after: Option<AuditPlace>,
    /// Maximum number of entries.
    pub limit: usize,
    /// True for the oldest entry first; else the newest entry comes first.
    pub oldest_first: bool,
}

/// A part of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The entries with their places.
    pub entries: Vec<(AuditPlace, AuditEntry)>,
    /// The place behind which the next page begins. Absent if the list is empty so far.
    pub next: Option<AuditPlace>,
    /// Set if there may be more entries.
    pub has_more: bool,
}

/// Number of entries that are read under one lock, and that a page looks at.
const ENTRIES_AT_ONCE: usize = 256;
const LOOKED_AT_MAX: usize = 16 * ENTRIES_AT_ONCE;

impl AuditQuery {
    fn wants(&self, entry: &AuditEntry) -> bool {
        self.since.is_none_or(|since| since <= entry.at)
            && self.until.is_none_or(|until| entry.at < until)
            && self.action.is_none_or(|action| action == entry.note.action)
    }

    /// Returns true if no entry behind this one is wanted. Steady times only grow, and the wall
    /// clock is never ahead of them.
    fn ends_at(&self, row: &AuditRow) -> bool {
        !self.oldest_first && self.since.is_some_and(|since| row.steady < since)
    }

    /// Returns the next entries behind a place.
    fn next(
        &self,
        state: &State,
        after: Option<AuditPlace>,
    ) -> Result<Vec<(AuditPlace, Arc<AuditRow>)>, StateError> {
        let (first, last) = ((Position(0), 0), (Position::MAX, u32::MAX));
        let (from, to) = match after {
            None => (first, last),
            Some((position, number)) if self.oldest_first => {
                ((position, number.saturating_add(1)), last)
            }
            Some((position, number)) => match number.checked_sub(1) {
                Some(before) => (first, (position, before)),
                None => (first, (Position(position.0.saturating_sub(1)), u32::MAX)),
            },
        };
        let Some(org) = self.org else {
            let table = &state.audit;
            return if self.oldest_first {
                table.range(from..=to, ENTRIES_AT_ONCE)
            } else {
                table.range_back(from..=to, ENTRIES_AT_ONCE)
            };
        };
        let (own, table) = ((org, from.0, from.1)..=(org, to.0, to.1), &state.audit_of);
        let found = if self.oldest_first {
            table.range(own, ENTRIES_AT_ONCE)?
        } else {
            table.range_back(own, ENTRIES_AT_ONCE)?
        };
        let row = |((_, position, number), _): (_, _)| {
            let place: AuditPlace = (position, number);
            Ok((place, state.audit.promised(place)?))
        };
        found.into_iter().map(row).collect()
    }
}

impl Store {
    /// Returns a page of the audit log. Looks at a bounded number of entries, so a page can be
    /// short although there are more.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StateError> {
        let mut page = AuditPage { entries: Vec::new(), next: query.after, has_more: true };
        for _ in 0..LOOKED_AT_MAX / ENTRIES_AT_ONCE {
            let found = query.next(&self.read(), page.next)?;
            let is_last = found.len() < ENTRIES_AT_ONCE;
            for (place, row) in found {
                if query.ends_at(&row) {
                    page.has_more = false;
                    return Ok(page);
                }
                if page.entries.len() == query.limit {
                    return Ok(page);
                }
                page.next = Some(place);
                if query.wants(&row.entry) {
                    page.entries.push((place, row.entry.clone()));
                }
            }
            if is_last {
                page.has_more = false;
                break;
            }
        }
        Ok(page)
    }

    /// Returns true if the oldest entry of the audit log is from before this steady time.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn has_expired_audit(&self, before: Timestamp) -> Result<bool, StateError> {
        let all = (Position(0), 0)..=(Position::MAX, u32::MAX);
        let oldest = self.read().audit.range(all, 1)?;
        Ok(oldest.first().is_some_and(|(_, row)| row.steady < before))
    }
}
