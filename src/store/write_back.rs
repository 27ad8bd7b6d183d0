//! Fresh rows into sled: all of them, with the journal position they stand for, in one atomic batch.
//!
//! All tables lie in one tree because sled's batch is atomic for a tree, and does not read the rows it replaces, as a
//! transaction over several trees does.

use super::{StateError, Store};

impl Store {
    /// How many rows wait in memory for the next write-back: changed ones, and ones that were looked at to be changed.
    pub fn layer_rows(&self) -> usize {
        self.read().tables().iter().map(|table| table.layer_rows()).sum()
    }

    /// Journal position of the first frame that is not applied.
    pub fn applied(&self) -> u64 {
        self.read().meta.get(()).ok().flatten().map_or(0, |meta| meta.applied)
    }

    /// Brings every changed row to sled; says how many. Only the thread that applies may call it: rows that change
    /// meanwhile would be lost.
    ///
    /// # Errors
    /// When sled fails. The state must not be used any more then.
    pub fn write_back(&self) -> Result<usize, StateError> {
        let mut batch = sled::Batch::default();
        let mut rows = 0;
        for table in self.read().tables() {
            for (key, row) in table.changes()? {
                rows += 1;
                match row {
                    Some(row) => batch.insert(key, row),
                    None => batch.remove(key),
                }
            }
        }
        if rows > 0 {
            // Readers go on meanwhile: they find the fresh rows in the layer. sled holds back those who read its tree.
            self.db().apply_batch(batch)?;
            self.db().flush()?;
        }
        for table in self.write().tables_mut() {
            table.written_back();
        }
        Ok(rows)
    }
}
