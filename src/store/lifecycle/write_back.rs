//! The write-back: all fresh rows go to sled with their journal position, in one atomic batch.
//!
//! All tables lie in one tree, because sled's batch is atomic for a tree and does not read the rows
//! that it replaces, as a transaction over several trees does. Rows change during a write-back: the
//! batch has the rows of one moment, and later changes wait for the next write-back.

use super::kept::{Kept, ROW_OVERHEAD};
use crate::journal::Position;
use crate::store::rows::table::AnyTable;
use crate::store::{StateError, Store};

/// The size of the next write-back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshSize {
    /// The number of changed rows that may each lie on another page of sled.
    pub rows: usize,
    /// The approximate size of the rows, in bytes.
    pub bytes: usize,
}

impl FreshSize {
    /// Returns roughly the memory of a copy of the rows, in bytes.
    pub fn copied_bytes(self) -> usize {
        self.bytes.saturating_add(self.rows.saturating_mul(ROW_OVERHEAD))
    }
}

impl Store {
    /// Returns the number of rows in memory: changed rows, and rows that were loaded to be changed.
    pub fn layer_rows(&self) -> usize {
        self.read().tables().iter().map(|table| table.layer_rows()).sum()
    }

    /// Returns the number of changed rows that wait for the next write-back.
    pub fn fresh_rows(&self) -> usize {
        self.read().tables().iter().map(|table| table.fresh_rows()).sum()
    }

    /// Returns the number and the approximate size of the changed rows. Looks at each row. While
    /// sled has no row at all, the rows fill whole pages in the order of their keys, so that only
    /// their bytes count: after a start on a full disk the whole state waits in memory.
    pub fn fresh(&self) -> FreshSize {
        // Asked before the state is locked, because sled may read a page.
        let is_empty = self.db().is_empty();
        let state = self.read();
        let tables = state.tables();
        let rows = || tables.iter().map(|table| table.fresh_rows()).sum();
        FreshSize {
            rows: if is_empty { 0 } else { rows() },
            bytes: tables.iter().map(|table| table.fresh_bytes()).sum(),
        }
    }

    /// Returns the journal position of the first command that is not applied.
    pub fn applied(&self) -> Position {
        self.read().meta.get(()).ok().flatten().map(|meta| meta.applied).unwrap_or_default()
    }

    /// Writes every changed row to sled. Returns their number. Other threads wait.
    ///
    /// # Errors
    /// sled fails. The state must not be used any more then.
    pub fn write_back(&self) -> Result<usize, StateError> {
        self.write_fresh(&mut self.writing()).map(|written| written.rows)
    }

    /// Writes every changed row to sled. Keeps the former values that a snapshot still needs. The
    /// caller holds the lock of `kept`.
    pub(super) fn write_fresh(&self, kept: &mut Option<Kept>) -> Result<Written, StateError> {
        // Fresh rows are taken between two calls of `apply`, so that rows and `applied` are of the
        // same moment.
        let (fresh, applied) = {
            let mut state = self.write();
            let applied = state.meta.get(())?.map(|meta| meta.applied).unwrap_or_default();
            (state.tables_mut().map(AnyTable::take_fresh), applied)
        };
        let mut batch = sled::Batch::default();
        let mut rows = 0;
        let mut add = |key: Vec<u8>, value: Option<Vec<u8>>, in_tree: bool| {
            if let Some(kept) = kept.as_mut().filter(|kept| kept.wants(&key)) {
                let former = if in_tree { self.db().get(&key)? } else { None };
                kept.keep(&key, former.map(|value| value.to_vec()));
            }
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
            Ok(())
        };
        for table in fresh {
            rows += table.each(&mut add)?;
        }
        if rows > 0 {
            // Readers find the rows in the layer meanwhile. sled delays readers of its tree.
            self.write_to_renewal(&batch);
            self.db().apply_batch(batch)?;
            self.db().flush()?;
            clear_away(rows);
        }
        for table in self.write().tables_mut() {
            table.written_back();
        }
        Ok(Written { rows, applied })
    }
}

/// The result of a write-back.
pub(super) struct Written {
    /// The number of rows.
    pub(super) rows: usize,
    /// The position of the first command that the rows lack.
    pub(super) applied: Position,
}

/// Frees sled's garbage: the rows that a batch replaced, and the pages that a scan left. Each
/// access to sled frees a little, and the server reads seldom and writes much: a million rows left
/// 3.5 GB of garbage, which disappeared over minutes. The garbage is in the default collector of
/// crossbeam-epoch.
pub(super) fn clear_away(rows: usize) {
    /// Number of pieces that each step frees, if nobody else accesses sled.
    const FREED_AT_ONCE: usize = 64;
    for _ in 0..=rows / FREED_AT_ONCE {
        crossbeam_epoch::pin().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_small_rows_takes_several_times_their_bytes() {
        let small = FreshSize { rows: 1_000_000, bytes: 40_000_000 };
        assert!(small.copied_bytes() > 3 * small.bytes);
        let large = FreshSize { rows: 10, bytes: 40_000_000 };
        assert!(large.copied_bytes() < large.bytes + large.bytes / 100);
        let all = FreshSize { rows: usize::MAX, bytes: usize::MAX };
        assert_eq!(all.copied_bytes(), usize::MAX);
    }
}
