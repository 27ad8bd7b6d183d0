//! The renewal of the state's files while the server runs. sled keeps the bytes of removed rows in
//! its file until it uses the space again, which may never happen. So after an organization was
//! deleted, the rows are copied to the next generation, and the present one is removed.
//!
//! The rows are copied in the order of their keys, a chunk at a time. Each write-back in the
//! meantime goes to both generations, so behind the last copied key they are always the same. At
//! the end the tables go on with the copy. A crash before leaves the present generation, and a
//! crash after it the copy, which are the same state.

use std::sync::{MutexGuard, PoisonError};

use super::generation::{
    COPYING, Generation, RUNNING, Renewal, following, make_dir, remove_generation, remove_mark,
    write_file, write_mark, write_since,
};
use super::opening::open_database;
use super::write_back::clear_away;
use crate::store::{StateError, Store};

impl Store {
    /// Returns true if the files may still hold bytes of an organization that was forgotten.
    pub fn is_stale(&self) -> bool {
        let forgot_at = self.read().meta.get(()).ok().flatten().and_then(|meta| meta.forgot_at);
        forgot_at.is_some_and(|at| at >= self.generation().since)
    }

    /// Returns true while the rows are copied to the next generation.
    pub fn is_renewing(&self) -> bool {
        let _writing = self.writing();
        self.renewal().is_some()
    }

    /// Returns the disk space of the present generation in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.db().size_on_disk().unwrap_or(0)
    }

    /// Begins to copy the rows to the next generation.
    ///
    /// # Errors
    /// A file cannot be written. The present generation stays in use.
    pub fn begin_renewal(&self) -> Result<(), StateError> {
        let mut writing = self.writing();
        // Rows that were removed before this write-back are not copied.
        let since = self.write_fresh(&mut writing)?.applied;
        let (dir, cache_bytes) = {
            let present = self.generation();
            (following(&present.dir), present.cache_bytes)
        };
        if dir.exists() {
            remove_generation(&dir)?;
        }
        make_dir(&dir)?;
        write_file(&dir, COPYING, "")?;
        let db = open_database(&dir, cache_bytes)?;
        let next = Generation { db, dir, cache_bytes, since };
        *self.renewal() = Some(Renewal { next, reached: Vec::new() });
        Ok(())
    }

    /// Copies some rows, and goes on with the next generation when it has all of them. Returns
    /// false when there is nothing more to do.
    ///
    /// # Errors
    /// A row cannot be read, or a file cannot be written. The present generation stays in use.
    pub fn renew_more(&self) -> Result<bool, StateError> {
        let _writing = self.writing();
        let mut renewal = self.renewal();
        let Some(current) = renewal.as_mut() else { return Ok(false) };
        let (rows, reached) = self.rows_behind(&current.reached)?;
        let (mut batch, count) = (sled::Batch::default(), rows.len());
        for (key, value) in rows {
            batch.insert(key, value);
        }
        current.next.db.apply_batch(batch)?;
        current.next.db.flush()?;
        clear_away(count);
        if let Some(reached) = reached {
            current.reached = reached;
            return Ok(true);
        }
        let old = match renewal.take() {
            Some(Renewal { next, .. }) => self.go_on_with(next)?,
            None => return Ok(false),
        };
        let Generation { db, dir, .. } = old;
        drop(db);
        remove_generation(&dir)?;
        Ok(false)
    }

    /// Gives up a renewal that is under way.
    pub fn give_up_renewal(&self) {
        let _writing = self.writing();
        if let Some(Renewal { next, .. }) = self.renewal().take() {
            remove_given_up(next);
        }
    }

    /// Writes rows to the next generation, too. If this fails, the renewal is given up.
    pub(super) fn write_to_renewal(&self, batch: &sled::Batch) {
        let mut renewal = self.renewal();
        let Some(current) = renewal.as_ref() else { return };
        let db = &current.next.db;
        let written = db.apply_batch(batch.clone()).and_then(|()| db.flush());
        if let Err(error) = written
            && let Some(Renewal { next, .. }) = renewal.take()
        {
            tracing::warn!(%error, "the files of the state cannot be renewed now");
            remove_given_up(next);
        }
    }

    /// Makes the next generation the present one, which is returned. The caller has locked
    /// write-backs out, so both have the same rows.
    fn go_on_with(&self, next: Generation) -> Result<Generation, StateError> {
        write_since(&next.dir, next.since)?;
        write_mark(&next.dir, RUNNING)?;
        remove_mark(&next.dir, COPYING)?;
        let mut state = self.write();
        for table in state.tables_mut() {
            table.use_tree(&next.db);
        }
        let mut present = self.generation.write().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut *present, next))
    }

    fn renewal(&self) -> MutexGuard<'_, Option<Renewal>> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_given_up(Generation { db, dir, .. }: Generation) {
    drop(db);
    if let Err(error) = remove_generation(&dir) {
        tracing::warn!(%error, path = %dir.display(), "an unfinished state cannot be removed");
    }
}
