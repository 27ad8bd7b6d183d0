//! Fresh rows into sled: all of them, with the journal position they stand for, in one atomic batch.
//!
//! All tables lie in one tree because sled's batch is atomic for a tree, and does not read the rows it replaces, as a
//! transaction over several trees does. Rows go on changing meanwhile: what is written is the state of one moment, and
//! what changed since waits for the next time.

use std::sync::PoisonError;

use super::table::AnyTable;
use super::{StateError, Store};

/// How much waits for the next write-back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshSize {
    /// Changed rows.
    pub rows: usize,
    /// Their bytes, nearly.
    pub bytes: usize,
}

impl Store {
    /// How many rows are in memory: changed ones, and ones that were looked at to be changed.
    pub fn layer_rows(&self) -> usize {
        self.read().tables().iter().map(|table| table.layer_rows()).sum()
    }

    /// How many changed rows wait for the next write-back.
    pub fn fresh_rows(&self) -> usize {
        self.read().tables().iter().map(|table| table.fresh_rows()).sum()
    }

    /// The same, and how many bytes they take, nearly. Looks at each of them.
    pub fn fresh(&self) -> FreshSize {
        let state = self.read();
        let tables = state.tables();
        FreshSize {
            rows: tables.iter().map(|table| table.fresh_rows()).sum(),
            bytes: tables.iter().map(|table| table.fresh_bytes()).sum(),
        }
    }

    /// Journal position of the first frame that is not applied.
    pub fn applied(&self) -> u64 {
        self.read().meta.get(()).ok().flatten().map_or(0, |meta| meta.applied)
    }

    /// Brings every changed row to sled; says how many. One thread at a time, others wait.
    ///
    /// # Errors
    /// When sled fails. The state must not be used any more then.
    pub fn write_back(&self) -> Result<usize, StateError> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // Between two calls of `apply`, so that rows and `applied` are of one moment.
        let fresh = self.write().tables_mut().map(AnyTable::take_fresh);
        let mut batch = sled::Batch::default();
        let mut rows = 0;
        for table in fresh {
            rows += table.encode(&mut batch)?;
        }
        if rows > 0 {
            // Readers find the rows in the layer meanwhile. sled holds back those who read its tree.
            self.db().apply_batch(batch)?;
            self.db().flush()?;
            clear_away(rows);
        }
        for table in self.write().tables_mut() {
            table.written_back();
        }
        Ok(rows)
    }
}

/// Has sled's garbage freed: what a batch replaced. Each time that somebody looks into sled a little of it is freed, and we
/// look seldom and write much: a million rows left 3.5 GB of it, which went over minutes. sled keeps it where everybody's
/// is kept, in the default collector of crossbeam-epoch.
fn clear_away(rows: usize) {
    /// So many pieces are freed by each step, if nobody looks into sled meanwhile.
    const FREED_AT_ONCE: usize = 64;
    for _ in 0..=rows / FREED_AT_ONCE {
        crossbeam_epoch::pin().flush();
    }
}
