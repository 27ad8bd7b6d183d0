//! Appending to the journal. Used by the committer alone: one writer, one
//! thread, one sync per group.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::error::AppendError;
use super::frame::{Group, Position};
use super::reader::Shared;
use super::segment::{self, SEGMENT_HEADER_BYTES, Segment, SegmentInfo};
use super::spare::{self, SpareMaker, Spares};
use crate::base::sabotage::{self, Switch};

/// Groups of so many bytes in the mean need no segment of zeros: with batches of 100 events of 1 KiB the thread that made
/// them took a fifth of the processor.
const LARGE_GROUP_BYTES: u64 = 64 << 10;

/// Appends groups of frames.
pub struct Writer {
    shared: Arc<Shared>,
    /// Frame bytes that a new segment has room for.
    segment_bytes: u64,
    /// The segment being written; none if the last one is sealed and the next
    /// could not be made yet.
    active: Option<Active>,
    /// Where the next segment's file may come from.
    spares: Option<Spares>,
    end: Position,
    /// Groups that went to the active segment, and their bytes.
    groups: (u64, u64),
    /// Why nothing is accepted any more.
    failed: Option<String>,
    positions: Vec<Position>,
}

/// The segment being written.
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    /// Where its preallocated space ends.
    pub(super) room_end: Position,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, segment_bytes: u64, active: Option<Active>) -> Self {
        let end = shared.end();
        Self { shared, segment_bytes, active, spares: None, end, groups: (0, 0), failed: None, positions: Vec::new() }
    }

    /// Where the next group will begin.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Lets the next segments' files be made ahead of time, by what is returned.
    pub fn spares(&mut self) -> SpareMaker {
        let (spares, maker) = spare::pair(self.shared.dir.clone(), Arc::clone(&self.shared.files));
        self.spares = Some(spares);
        maker
    }

    /// Writes a group and syncs it. When this returns the positions of its
    /// frames, they are on stable storage. The group stays filled, so that it can
    /// be appended again after [`AppendError::NoSpace`].
    pub fn append(&mut self, group: &mut Group) -> Result<&[Position], AppendError> {
        self.refuse_after_failure()?;
        self.positions.clear();
        if group.is_empty() {
            return Ok(&self.positions);
        }
        let segment = self.segment_with_room(group.bytes() as u64)?;
        let bytes = group.stamp(self.end, &mut self.positions);
        let (files, offset) = (&self.shared.files, segment.offset_of(self.end));
        let written = sabotage::write(&segment.file, bytes, offset)
            .unwrap_or_else(|| files.write_all_at(&segment.file, bytes, offset))
            .and_then(|()| files.sync_data(&segment.file));
        self.or_fail(
            written.or_else(|error| if sabotage::is_on(Switch::IgnoreFailedSync) { Ok(()) } else { Err(error) }),
        )?;
        let from = self.end;
        self.end = from.plus(group.bytes() as u64);
        self.groups = (self.groups.0 + 1, self.groups.1 + group.bytes() as u64);
        self.shared.publish(from, self.end);
        self.ask_for_spare();
        Ok(&self.positions)
    }

    /// When three quarters of the active segment are used, and not by large groups:
    /// what their syncs save is less than what writing all the zeros costs.
    fn ask_for_spare(&mut self) {
        let (Some(active), Some(spares)) = (&self.active, &mut self.spares) else { return };
        let (groups, bytes) = self.groups;
        if active.room_end.since(self.end) < self.segment_bytes / 4 && bytes < groups * LARGE_GROUP_BYTES {
            spares.ask(SEGMENT_HEADER_BYTES + self.segment_bytes);
        }
    }

    /// Deletes the oldest segments that end at or before `position`, never the
    /// last one, and returns them.
    pub fn remove_before(&mut self, position: Position) -> Result<Vec<SegmentInfo>, AppendError> {
        self.refuse_after_failure()?;
        let mut removed = Vec::new();
        while let Some((segment, end)) = self.oldest_ending_by(position) {
            segment.length_changes();
            // One by one and each synced, so that a crash leaves no gap.
            let gone = self.shared.files.remove(&segment.path);
            let gone = gone.and_then(|()| self.shared.files.sync_dir(&self.shared.dir));
            self.or_fail(gone)?;
            self.shared.segments_mut().retain(|kept| kept.first != segment.first);
            let path = segment.path.clone();
            removed.push(SegmentInfo { first: segment.first, end, path, sealed: true });
        }
        Ok(removed)
    }

    fn oldest_ending_by(&self, position: Position) -> Option<(Arc<Segment>, Position)> {
        let segments = self.shared.segments();
        let (oldest, next) = (segments.first()?, segments.get(1)?);
        (next.first <= position).then(|| (Arc::clone(oldest), next.first))
    }

    /// The active segment, if `bytes` fit into the rest of it; else a new one.
    fn segment_with_room(&mut self, bytes: u64) -> Result<Arc<Segment>, AppendError> {
        if let Some(active) = &self.active
            && self.end.plus(bytes) <= active.room_end
        {
            return Ok(Arc::clone(&active.segment));
        }
        self.seal_active()?;
        self.make_active(bytes)
    }

    /// Gives back the unused space of the active segment and syncs it. One
    /// without frames is left as it is, to be made anew.
    fn seal_active(&mut self) -> Result<(), AppendError> {
        let Some(Active { segment, .. }) = self.active.take() else { return Ok(()) };
        if segment.first == self.end {
            return Ok(());
        }
        self.or_fail(whole(&segment))?;
        segment.length_changes();
        let (files, len) = (&self.shared.files, segment.offset_of(self.end));
        let sealed = files.set_len(&segment.file, len).and_then(|()| files.sync_all(&segment.file));
        self.or_fail(sealed)?;
        segment.length_is(len);
        segment.mark_sealed();
        self.drop_cache_behind();
        tracing::debug!(segment = %segment.path.display(), end = %self.end, "the segment is complete");
        Ok(())
    }

    /// Has the kernel forget all but the two last segments: what is delivered soon is read from those, and the
    /// next segments' pages take the place of these instead of that of something else.
    fn drop_cache_behind(&self) {
        let segments = self.shared.segments();
        let Some(behind) = segments.len().checked_sub(2).and_then(|place| segments.get(place)) else { return };
        if let Err(error) = self.shared.files.drop_cache(&behind.file) {
            tracing::debug!(%error, segment = %behind.path.display(), "the kernel keeps the segment in memory");
        }
    }

    /// Makes the segment that begins at the end of the log, with room for at
    /// least `bytes`.
    pub(super) fn make_active(&mut self, bytes: u64) -> Result<Arc<Segment>, AppendError> {
        let last = self.shared.segments().last().cloned();
        let room = self.segment_bytes.max(bytes);
        let segment = match last.filter(|last| last.first == self.end) {
            Some(empty) => {
                self.remake(&empty, room)?;
                empty
            }
            None => self.make_next(room)?,
        };
        segment.length_is(SEGMENT_HEADER_BYTES + room);
        let active = Active { segment: Arc::clone(&segment), room_end: self.end.plus(room) };
        self.active = Some(active);
        self.groups = (0, 0);
        Ok(segment)
    }

    fn make_next(&mut self, room: u64) -> Result<Arc<Segment>, AppendError> {
        let path = segment::path_of(&self.shared.dir, self.end);
        let spare = self.spares.as_mut().and_then(|spares| spares.take(SEGMENT_HEADER_BYTES + room));
        let named = match spare {
            Some(spare) => self.name_spare(&spare, &path)?,
            None => None,
        };
        let file = match named {
            Some(file) => file,
            None => self.make_file(&path, room)?,
        };
        let segment = Arc::new(Segment::new(self.end, path, file));
        self.shared.segments_mut().push(Arc::clone(&segment));
        Ok(segment)
    }

    /// Makes a segment of a file of zeros. It gets its name last: what has the name has a header.
    /// It is opened anew, because /proc shows a file made without a name as deleted for ever. None if it cannot be named:
    /// the directory is full, or /proc is not there.
    fn name_spare(&mut self, spare: &File, path: &Path) -> Result<Option<File>, AppendError> {
        self.write_header(spare)?;
        let files = Arc::clone(&self.shared.files);
        if let Err(error) = files.name(spare, path) {
            tracing::warn!(%error, "the spare segment cannot be renamed");
            return Ok(None);
        }
        self.or_fail(files.sync_dir(&self.shared.dir))?;
        self.or_fail(files.open(path)).map(Some)
    }

    fn make_file(&mut self, path: &Path, room: u64) -> Result<File, AppendError> {
        let created = self.shared.files.create_new(path);
        let file = self.or_no_space(created)?;
        match self.prepare(&file, room) {
            Err(AppendError::NoSpace(kind)) => self.unmake(path, kind)?,
            other => other?,
        }
        Ok(file)
    }

    /// Takes away a file for which there was no space.
    fn unmake(&mut self, path: &Path, kind: io::ErrorKind) -> Result<(), AppendError> {
        let gone = self.shared.files.remove(path);
        let gone = gone.and_then(|()| self.shared.files.sync_dir(&self.shared.dir));
        self.or_fail(gone)?;
        Err(AppendError::NoSpace(kind))
    }

    /// Makes a segment without frames anew in its own file, so that its name, which
    /// alone may say where the log goes on, is there at any time.
    fn remake(&mut self, empty: &Segment, room: u64) -> Result<(), AppendError> {
        empty.length_changes();
        let emptied = self.shared.files.set_len(&empty.file, 0);
        self.or_fail(emptied)?;
        self.prepare(&empty.file, room)
    }

    /// Brings an empty file and its name to stable storage as a segment with
    /// zeros for frames, so that syncing a group never has a length to write. The
    /// first one of all is filled, which takes a moment at the first start; later
    /// ones come here only if no spare is ready, when somebody waits.
    fn prepare(&mut self, file: &File, room: u64) -> Result<(), AppendError> {
        let files = Arc::clone(&self.shared.files);
        let len = SEGMENT_HEADER_BYTES + room;
        let is_first = self.end == Position::FIRST;
        let made = if is_first { spare::fill(files.as_ref(), file, len) } else { files.allocate(file, len) };
        self.or_no_space(made)?;
        self.write_header(file)?;
        self.or_fail(files.sync_dir(&self.shared.dir))
    }

    /// Writes the header of the segment that begins at the end of the log.
    fn write_header(&mut self, file: &File) -> Result<(), AppendError> {
        let files = Arc::clone(&self.shared.files);
        let facts = files.metadata(file);
        let header = segment::encode_header(self.end, self.or_fail(facts)?);
        self.or_no_space(files.write_all_at(file, &header, 0))?;
        self.or_fail(files.sync_all(file))
    }

    fn refuse_after_failure(&self) -> Result<(), AppendError> {
        match &self.failed {
            Some(cause) => Err(AppendError::Fatal(io::Error::other(format!("an operation failed before: {cause}")))),
            None => Ok(()),
        }
    }

    /// Passes a success on. Any error is the last thing this writer does: after a
    /// failed sync the kernel may have dropped what it could not write, and a
    /// second sync would succeed without it.
    fn or_fail<T>(&mut self, result: io::Result<T>) -> Result<T, AppendError> {
        result.map_err(|e| {
            self.failed = Some(e.to_string());
            AppendError::Fatal(e)
        })
    }

    /// Like [`Self::or_fail`], where a full disk can be survived.
    fn or_no_space<T>(&mut self, result: io::Result<T>) -> Result<T, AppendError> {
        match result {
            Err(e) if is_no_space(&e) => Err(AppendError::NoSpace(e.kind())),
            other => self.or_fail(other),
        }
    }
}

/// Whether the file is as long as it was made. If somebody cut it off, sealing would hide that: what was lost would be zeros.
fn whole(segment: &Segment) -> io::Result<()> {
    let (is, path) = (segment.file.metadata()?.len(), segment.path.display());
    match segment.length().filter(|was| *was != is) {
        None => Ok(()),
        Some(was) => Err(io::Error::other(format!("{path} is {is} bytes long, but was made {was} bytes long"))),
    }
}

pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
