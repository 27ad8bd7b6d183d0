//! Opening a journal: finds the traces of a crash, a copy or bit rot, cuts frames that were never
//! acknowledged, and refuses unexplained content. Called at the start, by rebuild and by verify.
//! Changes nothing before everything is checked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{AppendError, Damage, JournalError};
use super::files::Files;
use super::frame::{self, FRAME_HEADER_BYTES};
use super::position::Position;
use super::reader::{Reader, RoomFor, Shared};
use super::segment::{self, Header, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_LEN, Segment, Window};
use super::snapshot::{SnapshotFile, snapshots_in};
use super::writer::{Active, Writer};
use crate::base::failpoint::{self, Switch};
use crate::base::library_errors::is_no_space;

/// The findings at opening, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// The number of segments now.
    pub segments: usize,
    /// The oldest position in the journal.
    pub first: Position,
    /// The position at which the next group will begin.
    pub end: Position,
    /// The bytes that were cut from the last segment.
    pub cut: Option<CutTail>,
    /// Set if the last segment is a copy of its original file.
    pub is_copy: bool,
    /// A segment file without frames that was created again, either because a crash or a copy
    /// interrupted its creation, or because the file was a copy.
    pub remade: Option<PathBuf>,
    /// Set if there is no space for the next segment. The journal can be read, and each append
    /// tries again.
    pub no_space: bool,
}

/// The bytes that were cut from the end of the last segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutTail {
    /// The path of the segment file.
    pub file: PathBuf,
    /// The offset of the cut in the file, in bytes.
    pub offset: u64,
    /// The number of written bytes after the cut.
    pub bytes: u64,
    /// The reason why the segment had a bad end.
    pub cause: CutCause,
}

/// The reason why the last segment had a bad end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CutCause {
    /// A crash came before the last group was synced. The group was never acknowledged.
    TornGroup,
    /// The file was copied while frames were appended. The content after the hole is younger than
    /// the beginning of the copying.
    CopyHole,
}

impl CutCause {
    /// The name of the cause in the log.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Opens a journal from which nothing was removed; see [`open_from`].
///
/// # Errors
/// As [`open_from`].
pub fn open(
    dir: &Path,
    files: Arc<dyn Files>,
    segment_bytes: u64,
) -> Result<(Writer, Reader, OpenReport), JournalError> {
    open_from(dir, files, segment_bytes, Position::FIRST, Box::new(|_| true))
}

/// Opens the journal in `dir`. Creates `dir` if it is missing. New segments have `segment_bytes`
/// without their header; a larger group gets its own segment. The journal may begin at `begins`:
/// segments before a gap that ends there or earlier are left out. A new segment is made only if
/// `room` agrees, also by this start: without its agreement, appends fail like on a full disk.
///
/// The last segment is read whole. Of the others, only the header, the size and the bytes after the
/// last frame are checked: reading finds the rest.
///
/// # Errors
/// The journal is damaged, or a file operation failed.
pub fn open_from(
    dir: &Path,
    files: Arc<dyn Files>,
    segment_bytes: u64,
    begins: Position,
    room: RoomFor,
) -> Result<(Writer, Reader, OpenReport), JournalError> {
    let mut segments = open_segments(dir, files.as_ref())?;
    segments.drain(..count_before_gap(&files, &segments, begins));
    let chain_is_copy = check_chain(&files, &segments)?;
    let last = match segments.last() {
        Some(last) => recover_last(&files, last)?,
        None => Last::none(),
    };
    let is_copy = last.is_copy.unwrap_or(chain_is_copy);
    if is_copy {
        sync_copied(dir, files.as_ref(), &segments)?;
    }
    files.sync_dir(dir).map_err(JournalError::io(dir))?;

    let active = last
        .room_end
        .zip(segments.last())
        .map(|(room_end, segment)| Active { segment: Arc::clone(segment), room_end });
    let empty = segments.last().filter(|segment| segment.first == last.end && active.is_none());
    let remade = empty.map(|segment| segment.path.clone());

    let needs_segment = active.is_none();
    let shared = Arc::new(Shared::new(dir.to_path_buf(), files, segments, last.end));
    shared.ask_for_room(room);
    let mut writer = Writer::new(Arc::clone(&shared), segment_bytes, active);
    let no_space = needs_segment && !make_first_active(&mut writer, dir)?;
    let (count, first) = {
        let segments = shared.segments();
        note_lengths(&segments)?;
        (segments.len(), segments.first().map_or(last.end, |segment| segment.first))
    };
    let report = OpenReport {
        segments: count,
        first,
        end: last.end,
        cut: last.cut,
        is_copy,
        remade,
        no_space,
    };
    Ok((writer, Reader::new(shared), report))
}

/// Syncs the segments and the snapshots of a copy, which may be in memory alone. Without a whole
/// snapshot, a compacted journal gives no state.
fn sync_copied(
    dir: &Path,
    files: &dyn Files,
    segments: &[Arc<Segment>],
) -> Result<(), JournalError> {
    for segment in segments {
        files.sync_all(&segment.file).map_err(JournalError::io(&segment.path))?;
    }
    for SnapshotFile { path, .. } in snapshots_in(dir, files)? {
        let file = files.open_to_read(&path).map_err(JournalError::io(&path))?;
        files.sync_all(&file).map_err(JournalError::io(&path))?;
    }
    Ok(())
}

/// Notes the length of each file, so that a later cut is noticed.
fn note_lengths(segments: &[Arc<Segment>]) -> Result<(), JournalError> {
    for segment in segments.iter().filter(|segment| segment.length().is_none()) {
        let metadata = segment.file.metadata().map_err(JournalError::io(&segment.path))?;
        segment.length_is(metadata.len());
    }
    Ok(())
}

/// Creates the segment for the next group. Returns true if there was space.
fn make_first_active(writer: &mut Writer, dir: &Path) -> Result<bool, JournalError> {
    match writer.make_active(0) {
        Ok(_) => Ok(true),
        Err(AppendError::NoSpace(_)) => Ok(false),
        Err(AppendError::Fatal(source)) => Err(JournalError::io(dir)(source)),
    }
}

/// Opens all segment files of the directory, the oldest first.
fn open_segments(dir: &Path, files: &dyn Files) -> Result<Vec<Arc<Segment>>, JournalError> {
    let parent =
        dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let paths = match files.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => files.create_dir(dir).map(|()| Vec::new()),
        other => other,
    };
    let paths = paths.map_err(JournalError::io(dir))?;
    // The parent is synced even if the directory exists: a crash may have come between its creation
    // and its sync.
    files.sync_dir(parent).map_err(JournalError::io(parent))?;
    let mut found: Vec<_> = paths
        .into_iter()
        .filter_map(|path| Some((segment::first_from_path(&path)?, path)))
        .collect();
    found.sort();
    let open = |(first, path): (Position, PathBuf)| {
        let file = files.open(&path).map_err(JournalError::io(&path))?;
        Ok(Arc::new(Segment::new(first, path, file)))
    };
    found.into_iter().map(open).collect()
}

/// Returns the number of segments before the last gap, if the journal may begin behind the gap: at
/// `begins` at the latest. A copy has such a gap if compaction removed segments from the beginning
/// of the original while the copy was made.
pub(super) fn count_before_gap(
    files: &Arc<dyn Files>,
    segments: &[Arc<Segment>],
    begins: Position,
) -> usize {
    // A file that cannot be read is no gap; the checks of the journal report it.
    let is_gap = |pair: &[Arc<Segment>]| match pair {
        [segment, next] if next.first <= begins => {
            ends_before(files, segment, next.first).unwrap_or(false)
        }
        _ => false,
    };
    segments.windows(2).rposition(is_gap).map_or(0, |number| number + 1)
}

/// Returns true if nothing was ever written between the last frame of a copied segment and `next`.
fn ends_before(
    files: &Arc<dyn Files>,
    segment: &Arc<Segment>,
    next: Position,
) -> Result<bool, JournalError> {
    let (header, len) = read_header(files.as_ref(), segment)?;
    let end = segment.offset_of(next);
    if len >= end && !matches!(header, Header::Whole { copy: true, .. }) {
        return Ok(false);
    }
    let in_file = || JournalError::reading(&segment.path);
    let mut window = Window::new(Arc::clone(files), Arc::clone(segment), len.min(end));
    let (offset, _) = walk(&mut window).map_err(in_file())?;
    Ok(offset < end && window.end_of_content(offset).map_err(in_file())?.is_none())
}

/// Checks that every segment but the last has a header, reaches the next segment, and has nothing
/// after that. Returns true if the last of the checked segments is a copy.
fn check_chain(files: &Arc<dyn Files>, segments: &[Arc<Segment>]) -> Result<bool, JournalError> {
    let mut is_copy = false;
    for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
        let (header, len) = read_header(files.as_ref(), segment)?;
        is_copy = match header {
            Header::Whole { copy, length } => {
                check_length(segment, len, length)?;
                copy
            }
            Header::Absent => return Err(damage(segment, 0, segment::NO_HEADER)),
            Header::Unreadable => {
                return Err(damage(segment, 0, "the segment's header is incomplete"));
            }
            Header::Foreign(reason) => return Err(damage(segment, 0, reason)),
        };
        let end = segment.offset_of(next.first);
        let mut window = Window::new(Arc::clone(files), Arc::clone(segment), len);
        if len < end {
            let (offset, _) = walk(&mut window).map_err(JournalError::reading(&segment.path))?;
            let (from, to) = (segment.position_at(offset), next.first.0 - 1);
            let reason = format!("the positions {from} to {to} are missing");
            return Err(damage(segment, offset, reason));
        }
        if window.end_of_content(end).map_err(JournalError::reading(&segment.path))?.is_some() {
            let reason = format!(
                "the segment goes on after the first position of the next segment, {}",
                next.first
            );
            return Err(damage(segment, end, reason));
        }
    }
    Ok(is_copy)
}

/// Checks that a file of `is` bytes is not shorter than `was` bytes.
fn check_length(segment: &Segment, is: u64, was: u64) -> Result<(), JournalError> {
    if is < was { Err(damage(segment, is, segment::cut_off(is, was))) } else { Ok(()) }
}

/// The findings about the last segment.
struct Last {
    end: Position,
    /// The end of the preallocated space. Absent if frames cannot be appended.
    room_end: Option<Position>,
    cut: Option<CutTail>,
    /// Set for a copy. Unknown if the header is not readable.
    is_copy: Option<bool>,
}

impl Last {
    fn none() -> Self {
        Self { end: Position::FIRST, room_end: None, cut: None, is_copy: None }
    }
}

/// Finds the end of the last segment, cuts the bytes after the end, and seals a segment to which
/// nothing can be appended.
fn recover_last(files: &Arc<dyn Files>, segment: &Arc<Segment>) -> Result<Last, JournalError> {
    let (header, len) = read_header(files.as_ref(), segment)?;
    let mut window = Window::new(Arc::clone(files), Arc::clone(segment), len);
    let in_file = || JournalError::io(&segment.path);
    let copy = match header {
        Header::Whole { copy, length } => {
            check_length(segment, len, length)?;
            copy
        }
        Header::Foreign(reason) => return Err(damage(segment, 0, reason)),
        Header::Absent => return Err(damage(segment, 0, segment::NO_HEADER)),
        Header::Unreadable => return without_header(segment, &mut window),
    };
    // The frames of a killed process may be only in memory, and after a failed sync the memory may
    // differ from the disk. So the file is synced and then read from the disk.
    files.sync_all(&segment.file).map_err(in_file())?;
    files.drop_cache(&segment.file).map_err(in_file())?;
    let (offset, cut) = find_end(&mut window, copy)?;
    let end = segment.position_at(offset);
    let mut last = Last { end, room_end: None, cut, is_copy: Some(copy) };
    let is_cut = last.cut.is_some() && !failpoint::is_on(Switch::TailRepairOff);
    if copy || is_cut {
        // No stale frame may follow a new frame.
        files.erase(&segment.file, offset, len).map_err(in_file())?;
    }
    // After a copy, the next segment is an original again. A segment without frames gets a header.
    if !copy && offset < len && has_space(files.as_ref(), segment, len).map_err(in_file())? {
        last.room_end = Some(segment.position_at(len));
    }
    if copy || is_cut {
        files.sync_all(&segment.file).map_err(in_file())?;
    }
    Ok(last)
}

/// Judges a last segment whose header is incomplete. Nothing is appended before the header is
/// synced. Without frames, the crash came before this sync, and the header is written again.
fn without_header(segment: &Segment, window: &mut Window) -> Result<Last, JournalError> {
    let content = window.end_of_content(SEGMENT_HEADER_BYTES);
    match content.map_err(JournalError::reading(&segment.path))? {
        None => Ok(Last { end: segment.first, ..Last::none() }),
        Some(_) => Err(damage(segment, 0, "the header is incomplete, but data follows it")),
    }
}

/// Reserves the disk space of a segment, because a part may have been given back. Returns true if
/// there was space.
fn has_space(files: &dyn Files, segment: &Segment, len: u64) -> io::Result<bool> {
    match files.allocate(&segment.file, len) {
        Err(error) if is_no_space(&error) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Returns the offset after the last kept frame, and the cut to make there.
fn find_end(window: &mut Window, copy: bool) -> Result<(u64, Option<CutTail>), JournalError> {
    let path = window.segment().path.clone();
    let in_file = || JournalError::reading(&path);
    let (offset, bad) = walk(window).map_err(in_file())?;
    let Some(reason) = bad else { return Ok((offset, None)) };
    let (cause, content_end) = match judge_end(window, offset, copy).map_err(in_file())? {
        BadEnd::Unwritten => return Ok((offset, None)),
        BadEnd::Cut(cause, content_end) => (cause, content_end),
        BadEnd::Damage(later) => {
            let reason = format!("{reason}, but a later group begins at offset {later}");
            return Err(JournalError::Damage(Damage::new(&path, offset, reason)));
        }
    };
    let cut = CutTail { file: path, offset, bytes: content_end - offset, cause };
    Ok((offset, Some(cut)))
}

/// The verdict on a bad frame of the last segment.
pub(super) enum BadEnd {
    /// Nothing was written at the offset yet.
    Unwritten,
    /// The bytes up to this offset were never acknowledged.
    Cut(CutCause, u64),
    /// The frame was whole once, because a later group begins at this offset.
    Damage(u64),
}

/// Judges the bad frame at `offset` of the last segment.
pub(super) fn judge_end(window: &mut Window, offset: u64, copy: bool) -> io::Result<BadEnd> {
    let Some(content_end) = window.end_of_content(offset)? else { return Ok(BadEnd::Unwritten) };
    Ok(match window.find_frame(offset + 1, false)? {
        None => BadEnd::Cut(CutCause::TornGroup, content_end),
        Some(_) if copy && is_copy_hole(window, offset)? => {
            BadEnd::Cut(CutCause::CopyHole, content_end)
        }
        Some(later) => BadEnd::Damage(later),
    })
}

/// Walks through the frames to the end of the window or to the first bad frame. Returns the offset,
/// and the fault if there is one.
fn walk(window: &mut Window) -> io::Result<(u64, Option<&'static str>)> {
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < window.limit() {
        match window.frame_at(offset)? {
            Ok(frame) => offset += frame.total_bytes,
            Err(reason) => return Ok((offset, Some(reason))),
        }
    }
    Ok((offset, None))
}

/// Returns true if the bad frame at `offset` looks like pages from before the write: its header is
/// zeros, or a page of the frame ends in zeros.
fn is_copy_hole(window: &mut Window, offset: u64) -> io::Result<bool> {
    /// The unit in which the kernel copies and writes.
    const PAGE_BYTES: u64 = 4096;
    /// Minimum number of zeros at the end of a page. Fewer zeros may belong to the frame.
    const ZEROS_MIN: usize = 16;

    let position = window.segment().position_at(offset);
    let header = window.view(offset, FRAME_HEADER_BYTES)?;
    if header.iter().take(FRAME_HEADER_BYTES).all(|&b| b == 0) {
        return Ok(true);
    }
    let claim = frame::claim(header, position);
    let end = offset + claim.map_or(FRAME_HEADER_BYTES as u64, |claim| claim.total_bytes);
    let mut at = offset;
    while at < end {
        let want = usize::try_from(PAGE_BYTES - at % PAGE_BYTES).unwrap_or(1);
        let seen = window.view(at, want)?;
        let page = seen.get(..want).unwrap_or(seen);
        let zeros = page.iter().rev().take_while(|&&b| b == 0).count();
        let zeros_from = at + (page.len() - zeros) as u64;
        // The first bytes of a header are often zeros, because they are the length.
        let all = zeros == page.len() && zeros > 3;
        if (all || zeros >= ZEROS_MIN) && zeros_from < end {
            return Ok(true);
        }
        at += want as u64;
    }
    Ok(false)
}

/// Returns the header of a segment, and the length of its file in bytes.
pub(super) fn read_header(
    files: &dyn Files,
    segment: &Segment,
) -> Result<(Header, u64), JournalError> {
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    let facts = files.metadata(&segment.file).map_err(JournalError::io(&segment.path))?;
    let got = files
        .read_at(&segment.file, &mut bytes, 0)
        .map_err(JournalError::reading(&segment.path))?;
    let header = segment::decode_header(bytes.get(..got).unwrap_or_default(), segment.first, facts);
    Ok((header, facts.len))
}

fn damage(segment: &Segment, offset: u64, reason: impl Into<String>) -> JournalError {
    JournalError::Damage(Damage::new(&segment.path, offset, reason))
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
