//! Opens and closes the state of a data directory.

use std::fmt;
use std::fs::{self, File};
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::time::{Duration, Instant};

use super::generation::{
    CLEAN, Generation, RUNNING, Reason, SEGMENT_BYTES, generations, judge_mark, make_dir, make_way,
    read_since, remove_generations_before, remove_mark, remove_unfinished, write_mark,
};
use crate::base::threads::Signal;
use crate::journal::Position;
use crate::store::rows::state::State;
use crate::store::{Effects, StateError, Store};

impl Store {
    /// Opens the state under `dir`: the last generation if it is valid, otherwise an empty next
    /// generation (then [`Store::rebuild_reason`] has the reason). `cache_bytes` bounds sled's page
    /// cache.
    ///
    /// # Errors
    /// A directory cannot be created, or a fresh generation cannot be opened.
    pub fn open(dir: &Path, cache_bytes: u64, journal_end: Position) -> Result<Self, StateError> {
        make_way(dir)?;
        make_dir(dir)?;
        remove_unfinished(dir)?;
        let last = generations(dir)?.into_iter().max();
        let number = last.unwrap_or(0);
        let reason = match last {
            None => Reason::Missing,
            Some(last) => match Self::open_valid(&dir.join(last.to_string()), cache_bytes) {
                Ok(store) if store.applied() <= journal_end => {
                    remove_generations_before(dir, number)?;
                    return Ok(store);
                }
                Ok(mut store) => {
                    store.reason = Some(Reason::AheadOfJournal { applied: store.applied() });
                    return Ok(store);
                }
                Err(reason) => reason,
            },
        };
        // Before the next generation is created, because the disk may not have room for both.
        remove_generations_before(dir, number + 1)?;
        let fresh = dir.join((number + 1).to_string());
        make_dir(&fresh)?;
        let store = Self::open_generation(&fresh, cache_bytes, Some(reason))?;
        store.begin(&mut Effects::default()).finish(Position::FIRST)?;
        Ok(store)
    }

    fn open_valid(dir: &Path, cache_bytes: u64) -> Result<Self, Reason> {
        judge_mark(dir)?;
        let unusable = |error: &dyn fmt::Display| Reason::Unusable(error.to_string());
        // sled 0.34.7 panics on some kinds of damage.
        let opened = catch_unwind(|| Self::open_generation(dir, cache_bytes, None));
        opened.map_err(|_panic| unusable(&"opening it panicked"))?.map_err(|error| unusable(&error))
    }

    pub(in crate::store) fn open_generation(
        dir: &Path,
        cache_bytes: u64,
        reason: Option<Reason>,
    ) -> Result<Self, StateError> {
        let db = open_database(dir, cache_bytes)?;
        // From here on a crash of the process leaves RUNNING. While the mark is exchanged, a crash
        // may leave both, which reads as RUNNING, or none, which reads as unusable.
        write_mark(dir, RUNNING)?;
        remove_mark(dir, CLEAN)?;
        let broken = Arc::default();
        let state = State::open(&db, &broken)?;
        Ok(Self {
            broken,
            state: std::sync::RwLock::new(state),
            writing: std::sync::Mutex::default(),
            renewal: std::sync::Mutex::default(),
            generation: std::sync::RwLock::new(Generation {
                db,
                dir: dir.to_owned(),
                cache_bytes,
                since: read_since(dir),
            }),
            reason,
        })
    }

    /// Returns the reason why the state began empty. `None` if a valid state was there.
    pub fn rebuild_reason(&self) -> Option<&Reason> {
        self.reason.as_ref()
    }

    /// Invalidates this directory: the next start computes the state from the journal.
    pub fn invalidate(&self) {
        if let Err(error) = remove_mark(&self.generation().dir, RUNNING) {
            tracing::warn!(%error, "the broken state could not be marked as broken");
        }
    }

    /// Returns a guard for a thread that uses the state. If the thread panics, the directory is
    /// invalidated, because the cause might make the next start panic too.
    pub fn invalidate_on_panic(self: &Arc<Self>) -> InvalidateOnPanic {
        InvalidateOnPanic(Arc::clone(self))
    }

    /// Writes everything back and marks the directory clean. Nothing may be applied afterwards.
    ///
    /// # Errors
    /// A file cannot be written. Then the next start computes the state from the journal.
    pub fn close(&self) -> Result<(), StateError> {
        if self.is_broken() {
            return Err(StateError::Rows("a row of the state could not be read".to_owned()));
        }
        self.give_up_renewal();
        self.write_back()?;
        let generation = self.generation();
        let Generation { db, dir, .. } = &*generation;
        db.flush()?;
        for file in fs::read_dir(dir)? {
            let path = file?.path();
            if path.is_file() {
                File::open(&path).and_then(|file| file.sync_all())?;
            }
        }
        write_mark(dir, CLEAN)?;
        remove_mark(dir, RUNNING)
    }

    pub(super) fn generation(&self) -> RwLockReadGuard<'_, Generation> {
        self.generation.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the present database. It is replaced by another one with the same rows while
    /// write-backs are locked out.
    pub(in crate::store) fn db(&self) -> sled::Db {
        self.generation().db.clone()
    }
}

/// The guard of [`Store::invalidate_on_panic`].
#[derive(Debug)]
pub struct InvalidateOnPanic(Arc<Store>);

impl Drop for InvalidateOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.invalidate();
        }
    }
}

pub(super) fn open_database(dir: &Path, cache_bytes: u64) -> Result<sled::Db, sled::Error> {
    let settings = sled::Config::new()
        .path(dir)
        .cache_capacity(cache_bytes)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None)
        .mode(sled::Mode::HighThroughput);
    open_unlocked(&settings)
}

/// Opens sled, and waits while its file lock is still held: sled 0.34.7 releases the lock a moment
/// after it was dropped. No other process has it, because the data directory has a lock of its own.
fn open_unlocked(settings: &sled::Config) -> Result<sled::Db, sled::Error> {
    const AT_MOST: Duration = Duration::from_secs(2);
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    let began = Instant::now();
    loop {
        match settings.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && began.elapsed() < AT_MOST =>
            {
                Signal::new().wait(LOOK_EVERY);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
