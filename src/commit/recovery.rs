//! Recovery brings the state up to date with the journal: about a second of commands after a crash,
//! all commands when the state is computed anew.

use std::time::{Duration, Instant};

use super::chunks::chunks;
use super::space::Space;
use crate::base::failpoint::{self, Switch};
use crate::commands::{self, RecordError, Records, Results};
use crate::journal::JournalError;
use crate::store::{StateError, Store};

/// Bytes of records decoded in parallel at a time.
const CHUNK_BYTES: usize = 8 << 20;
/// Number of rows that may wait for sled during recovery. The largest rows are blocks of events,
/// with 5 KiB each.
const DIRTY_ROWS_MAX: usize = 4_096;

/// The result of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Number of applied commands.
    pub commands: u64,
    /// Duration of the recovery.
    pub took: Duration,
}

/// The reason why the state cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The journal cannot be read, or holds a record unknown to this version.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// A snapshot cannot be read.
    #[error(transparent)]
    Snapshot(JournalError),
    /// The threads for decoding records cannot be started.
    #[error(transparent)]
    Threads(rayon::ThreadPoolBuildError),
}

/// Applies the part of the journal behind the state's position and writes the rows to sled. Rows
/// for which the disk has no room stay in memory.
///
/// # Errors
/// The journal or the state cannot be read.
pub fn recover(
    store: &Store,
    records: &Records,
    space: &Space,
) -> Result<Recovered, RecoveryError> {
    recover_with_progress(store, records, space, &|_done, _all| ())
}

/// Like [`recover`], but calls `progress` after each chunk with the applied and the total number of
/// bytes.
///
/// # Errors
/// As [`recover`].
pub fn recover_with_progress(
    store: &Store,
    records: &Records,
    space: &Space,
    progress: &dyn Fn(u64, u64),
) -> Result<Recovered, RecoveryError> {
    let began = Instant::now();
    let pool = rayon::ThreadPoolBuilder::new().thread_name(|n| format!("decode-{n}")).build();
    let pool = pool.map_err(RecoveryError::Threads)?;
    let from = if failpoint::is_on(Switch::RebuildOff) {
        records.end()
    } else {
        store.applied().max(records.first())
    };
    let mut follower = records.follow(from)?;
    let mut commands = 0;
    loop {
        let decoded = pool.install(|| follower.chunk(CHUNK_BYTES))?;
        if decoded.is_empty() {
            break;
        }
        commands += decoded.len() as u64;
        let in_order: Vec<_> =
            decoded.iter().map(|record| (record.position, &record.command)).collect();
        for (chunk, end) in chunks(&in_order, follower.position()) {
            commands::apply(store, chunk.iter().copied(), end, &mut Results::default())?;
            if store.layer_rows() >= DIRTY_ROWS_MAX {
                write_back(store, space)?;
            }
        }
        progress(follower.position().since(from), records.end().since(from));
    }
    write_back(store, space)?;
    Ok(Recovered { commands, took: began.elapsed() })
}

fn write_back(store: &Store, space: &Space) -> Result<(), StateError> {
    let fresh = store.fresh();
    let is_misjudged = failpoint::is_on(Switch::RoomMisjudged) && !space.is_overrun();
    if space.is_short_for(fresh) && !is_misjudged {
        tracing::debug!(
            rows = fresh.rows,
            bytes = fresh.bytes,
            "the disk is full: rows stay in memory"
        );
        return Ok(());
    }
    store.write_back().map(drop)
}
