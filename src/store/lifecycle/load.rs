//! Loads the rows of a snapshot into a state that began empty.
//!
//! While rows are loaded, and as long as rows of a snapshot are only in memory, the directory has
//! no mark. So after a crash the next start finds no valid state and begins again.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::generation::{RUNNING, remove_mark, write_mark};
use super::write_back::clear_away;
use crate::journal::Position;
use crate::model::id::OrgNo;
use crate::store::rows::row::Row;
use crate::store::rows::row_bytes::write_row;
use crate::store::rows::schema::{EventBlock, InboxRow, OrgRow};
use crate::store::rows::state::State;
use crate::store::rows::table::AnyTable;
use crate::store::{FreshSize, StateError, Store};

/// Number of rows, and bytes of rows, that go to sled at once.
const BATCH_ROWS: usize = 4_096;
const BATCH_BYTES: usize = 1 << 20;

/// The loading of a snapshot.
pub struct Load<'a> {
    store: &'a mut Store,
    /// Set if sled gets no row, because the disk has no room.
    in_memory: bool,
    batch: sled::Batch,
    size: FreshSize,
    /// The index of the table of the last row, because rows come table by table.
    table: usize,
    /// The counts of inboxes that a former version wrote, which did not count the events. Rows come
    /// in the order of their keys: organizations, then blocks of events, then inboxes.
    uncounted: BTreeMap<OrgNo, InboxRow>,
}

impl Store {
    /// Begins to load a snapshot into a state that began empty. With `in_memory` the rows stay in
    /// memory until a write-back.
    ///
    /// # Errors
    /// The directory's mark cannot be removed.
    pub fn begin_load(&mut self, in_memory: bool) -> Result<Load<'_>, StateError> {
        remove_mark(&self.generation().dir, RUNNING)?;
        let (batch, size) = (sled::Batch::default(), FreshSize::default());
        Ok(Load { store: self, in_memory, batch, size, table: 0, uncounted: BTreeMap::new() })
    }
}

impl Load<'_> {
    /// Adds a row. Rows go to sled with [`Load::flush`].
    ///
    /// # Errors
    /// The row is of no known table, or of an unknown version.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let counted = self.counted(key, value)?;
        let value = counted.as_deref().unwrap_or(value);
        let unknown = || StateError::Rows(format!("the snapshot holds an unknown row {key:02x?}"));
        if self.in_memory {
            let state = self.store.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            for table in state.tables_mut() {
                if table.insert_raw(key, value)? {
                    return Ok(());
                }
            }
            return Err(unknown());
        }
        let state = self.store.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let value = upgraded(&state.tables(), &mut self.table, key, value);
        let value = value.ok_or_else(unknown)??;
        self.size.rows += 1;
        self.size.bytes += key.len() + value.len();
        self.batch.insert(key, &*value);
        Ok(())
    }

    /// Counts the events of a block, if its inbox does not. Returns the row of such an inbox with
    /// the counts.
    fn counted(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let (Some((prefix, rest)), Some((version, row))) = (key.split_first(), value.split_first())
        else {
            return Ok(None);
        };
        let Some(org) = rest.first_chunk().map(|number| OrgNo(u32::from_be_bytes(*number))) else {
            return Ok(None);
        };
        if *prefix == OrgRow::PREFIX && *version < OrgRow::VERSION {
            self.uncounted.insert(org, InboxRow::default());
        } else if *prefix == EventBlock::PREFIX
            && let Some(counts) = self.uncounted.get_mut(&org)
        {
            counts.count(&EventBlock::read(*version, row)?);
        } else if *prefix == InboxRow::PREFIX && *version < InboxRow::VERSION {
            let InboxRow { events, bytes, .. } = self.uncounted.remove(&org).unwrap_or_default();
            let inbox = InboxRow { events, bytes, ..InboxRow::read(*version, row)? };
            return Ok(Some(write_row(&inbox)?));
        }
        Ok(None)
    }

    /// Returns true if enough rows were added for a batch of sled.
    pub fn is_full(&self) -> bool {
        self.size.rows >= BATCH_ROWS || self.size.bytes >= BATCH_BYTES
    }

    /// Returns the size of the rows that wait for [`Load::flush`].
    pub fn size(&self) -> FreshSize {
        self.size
    }

    /// Writes the added rows to sled.
    ///
    /// # Errors
    /// sled fails.
    pub fn flush(&mut self) -> Result<(), StateError> {
        let rows = std::mem::take(&mut self.size).rows;
        if rows > 0 {
            self.store.db().apply_batch(std::mem::take(&mut self.batch))?;
            self.store.db().flush()?;
            clear_away(rows);
        }
        Ok(())
    }

    /// Ends the loading. From then on the state is the snapshot's.
    ///
    /// # Errors
    /// sled fails, or the rows are of another position than the snapshot's.
    pub fn finish(mut self, position: Position) -> Result<(), StateError> {
        self.flush()?;
        let state = self.store.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.in_memory {
            state.make_indexes()?;
        } else {
            let generation = self.store.generation.get_mut();
            let db = &generation.unwrap_or_else(PoisonError::into_inner).db;
            *state = State::open(db, &self.store.broken)?;
        }
        let applied = state.meta.get(())?.map(|meta| meta.applied);
        if applied != Some(position) {
            let (of, applied) = (position, applied.unwrap_or_default());
            let reason = format!("the rows of the snapshot of {of} are of position {applied}");
            return Err(StateError::Rows(reason));
        }
        if self.in_memory { Ok(()) } else { write_mark(&self.store.generation().dir, RUNNING) }
    }
}

/// Returns the row's value in its present version. `None` if no table has such a row. `last` is the
/// index of the table of the row before.
fn upgraded<'v>(
    tables: &[&dyn AnyTable],
    last: &mut usize,
    key: &[u8],
    value: &'v [u8],
) -> Option<Result<std::borrow::Cow<'v, [u8]>, StateError>> {
    let same = tables.get(*last).and_then(|table| table.upgraded(key, value));
    same.or_else(|| {
        let of =
            |(index, table): (usize, &&dyn AnyTable)| Some((index, table.upgraded(key, value)?));
        let (index, value) = tables.iter().enumerate().find_map(of)?;
        *last = index;
        Some(value)
    })
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
