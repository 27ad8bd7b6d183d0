//! Recovery brings the state up to date with the journal: about a second of commands after a crash,
//! all commands when the state is computed anew.

use std::fmt;
use std::time::{Duration, Instant};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::portions::portions;
use super::space::Space;
use crate::base::failpoint::{self, Switch};
use crate::commands::{self, Command, UnknownFrame};
use crate::journal::{OwnedFrame, Position, ReadError, Reader};
use crate::store::{StateError, Store};

/// Bytes of frames decoded in parallel at a time.
const PORTION_BYTES: usize = 8 << 20;
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
#[derive(Debug)]
pub enum RecoveryError {
    /// The journal cannot be read.
    Journal(ReadError),
    /// The journal holds a frame unknown to this version.
    Unknown {
        /// The position of the frame.
        position: Position,
        /// The kind and version of the frame.
        frame: UnknownFrame,
    },
    /// The state cannot be read or written.
    State(StateError),
    /// The threads for decoding frames cannot be started.
    Threads(rayon::ThreadPoolBuildError),
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(error) => error.fmt(f),
            Self::Unknown { position, frame } => {
                write!(f, "journal position {position} holds {frame}")
            }
            Self::State(error) => error.fmt(f),
            Self::Threads(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecoveryError {}

impl From<ReadError> for RecoveryError {
    fn from(error: ReadError) -> Self {
        Self::Journal(error)
    }
}

impl From<StateError> for RecoveryError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// Applies the part of the journal behind the state's position and writes the rows to sled. Rows
/// for which the disk has no room stay in memory.
///
/// # Errors
/// When the journal or the state cannot be read.
pub fn recover(store: &Store, journal: &Reader, space: &Space) -> Result<Recovered, RecoveryError> {
    recover_telling(store, journal, space, &|_done, _all| ())
}

/// Like [`recover`], but calls `tell` after each chunk with the applied and the total number of
/// bytes.
///
/// # Errors
/// As [`recover`].
pub fn recover_telling(
    store: &Store,
    journal: &Reader,
    space: &Space,
    tell: &dyn Fn(u64, u64),
) -> Result<Recovered, RecoveryError> {
    let began = Instant::now();
    let pool = rayon::ThreadPoolBuilder::new().thread_name(|n| format!("decode-{n}")).build();
    let pool = pool.map_err(RecoveryError::Threads)?;
    let oldest = journal.segments().first().map_or(Position::FIRST, |segment| segment.first);
    let from = if failpoint::is_on(Switch::RebuildOff) {
        journal.end()
    } else {
        store.applied().max(oldest)
    };
    let mut scan = journal.scan(from, None)?;
    let mut commands = 0;
    loop {
        let mut portion = Vec::new();
        let mut bytes = 0;
        while bytes < PORTION_BYTES
            && let Some(frame) = scan.next_frame()
        {
            let frame = frame?;
            bytes += frame.body.len();
            portion.push(OwnedFrame::from(frame));
        }
        if portion.is_empty() {
            break;
        }
        let decoded: Vec<(Position, Command)> =
            pool.install(|| portion.par_iter().map(decode).collect::<Result<_, _>>())?;
        commands += decoded.len() as u64;
        let in_order: Vec<_> =
            decoded.iter().map(|(position, command)| (*position, command)).collect();
        for (portion, end) in portions(&in_order, scan.position()) {
            commands::apply(store, portion.iter().copied(), end, &mut Vec::new())?;
            if store.layer_rows() >= DIRTY_ROWS_MAX {
                write_back(store, space)?;
            }
        }
        tell(scan.position().since(from), journal.end().since(from));
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

fn decode(frame: &OwnedFrame) -> Result<(Position, Command), RecoveryError> {
    let position = frame.position;
    let command = Command::read(frame.kind, frame.version, &frame.body);
    command
        .map(|command| (position, command))
        .map_err(|frame| RecoveryError::Unknown { position, frame })
}
