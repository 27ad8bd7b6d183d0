//! Fresh rows into sled: all of them, with the journal position they stand for, in one transaction.

use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::table::Change;
use super::{StateError, Store};

impl Store {
    /// How many rows sled does not have yet.
    pub fn dirty_rows(&self) -> usize {
        self.read().tables().iter().map(|table| table.dirty_rows()).sum()
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
        let (trees, changes) = {
            let state = self.read();
            let dirty: Vec<_> = state.tables().into_iter().filter(|table| table.dirty_rows() > 0).collect();
            let trees: Vec<sled::Tree> = dirty.iter().map(|table| table.tree().clone()).collect();
            let changes: Vec<Vec<Change>> = dirty.iter().map(|table| table.changes()).collect::<Result<_, _>>()?;
            (trees, changes)
        };
        let rows = changes.iter().map(Vec::len).sum();
        if rows == 0 {
            return Ok(0);
        }
        // Readers go on meanwhile: they find the fresh rows in the layer. sled holds back those who read its trees.
        let written = trees.as_slice().transaction(|trees| {
            for (tree, changes) in trees.iter().zip(&changes) {
                for (key, row) in changes {
                    match row {
                        Some(row) => tree.insert(key.as_slice(), row.as_slice())?,
                        None => tree.remove(key.as_slice())?,
                    };
                }
            }
            Ok::<(), ConflictableTransactionError<StateError>>(())
        });
        written.map_err(|error| match error {
            TransactionError::Abort(error) => error,
            TransactionError::Storage(error) => error.into(),
        })?;
        for table in self.write().tables_mut() {
            table.written_back();
        }
        self.db().flush()?;
        Ok(rows)
    }
}
