//! Takes one snapshot: writes every row of the state, as of one position, to a file beside the
//! journal's segments.

use std::path::Path;
use std::sync::Arc;

use crate::journal::{
    Files, JournalError, Position, SnapshotFile, SnapshotHeader, SnapshotSize, SnapshotWriter,
};
use crate::store::{FreshHandling, StateError, Store, Walked};

/// Maximum number of bytes of former row values that are kept in memory while a snapshot is taken.
const KEPT_BYTES_MAX: usize = 32 << 20;

pub(super) const OUTRUN: &str = "too many rows changed while it was taken";

/// The reason why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The snapshot was given up; the text says why.
    #[error("{0}")]
    GivenUp(&'static str),
    /// The file cannot be written.
    #[error(transparent)]
    File(JournalError),
    /// The state cannot be read or written. It must not be used any more.
    #[error(transparent)]
    State(StateError),
}

/// Takes a snapshot into the journal's directory `dir`. `first` is the first position of the
/// journal, and `fresh` how the rows are had that sled lacks. `may_go_on` is asked after each chunk
/// of rows, and returns a reason to give up.
///
/// # Errors
/// See [`NotTaken`].
pub fn take_snapshot(
    store: &Store,
    (dir, files): (&Path, &Arc<dyn Files>),
    (first, taken_at_ms, fresh): (Position, u64, FreshHandling),
    may_go_on: &mut dyn FnMut(SnapshotSize) -> Result<(), &'static str>,
) -> Result<(SnapshotFile, SnapshotSize), NotTaken> {
    let mut rows = store.begin_snapshot(KEPT_BYTES_MAX, fresh).map_err(NotTaken::State)?;
    let (position, rows_format) = (rows.position(), rows.format());
    let header = SnapshotHeader { rows_format, position, first, taken_at_ms };
    let writer = SnapshotWriter::create(Arc::clone(files), dir, header);
    let mut writer = writer.map_err(NotTaken::File)?;
    loop {
        match rows.next_rows().map_err(NotTaken::State)? {
            Walked::End => break,
            Walked::Outrun => {
                return Err(NotTaken::GivenUp(OUTRUN));
            }
            Walked::Rows(chunk) => {
                let add = |(key, value): &(Vec<u8>, Vec<u8>)| writer.add(key, value);
                chunk.iter().try_for_each(add).map_err(NotTaken::File)?;
            }
        }
        may_go_on(writer.size()).map_err(NotTaken::GivenUp)?;
    }
    // From here on the file is slow, not the state.
    drop(rows);
    writer.finish().map_err(NotTaken::File)
}
