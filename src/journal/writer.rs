//! Appending to the journal. Used only by the committer: one writer, one thread, one sync per
//! group.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::error::{AppendError, ReadError};
use super::frame::Group;
use super::log::{Appended, Follow, Log, RawRecord, ReadLog};
use super::new_file;
use super::position::Position;
use super::reader::{Reader, Shared};
use super::segment::{self, SEGMENT_HEADER_BYTES, Segment};
use super::spare::{self, SpareMaker, Spares};
use crate::base::failpoint::{self, Switch};
use crate::base::library_errors::is_no_space;

/// Groups of this average size need no segment of zeros: with batches of 100 events of 1 KiB, the
/// thread that makes spares took a fifth of the processor.
const LARGE_GROUP_BYTES: u64 = 64 << 10;

/// The smallest room of a segment in bytes, unless a group needs more.
pub(super) const ROOM_MIN: u64 = 64 << 10;

/// Appends groups of records, and syncs each.
pub struct Writer {
    shared: Arc<Shared>,
    /// Room for frames in a new segment, in bytes.
    segment_bytes: u64,
    /// The segment that is being written. Absent if the last segment is sealed and the next could
    /// not be created yet.
    active: Option<Active>,
    /// The source of ready files for the next segments.
    spares: Option<Spares>,
    end: Position,
    /// The number of groups in the active segment, and their bytes.
    groups: (u64, u64),
    /// The reason why the writer refuses further groups.
    failed: Option<String>,
    positions: Vec<Position>,
}

/// The segment under construction.
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    /// The position at which the preallocated space ends.
    pub(super) room_end: Position,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, segment_bytes: u64, active: Option<Active>) -> Self {
        let end = shared.end();
        Self {
            shared,
            segment_bytes,
            active,
            spares: None,
            end,
            groups: (0, 0),
            failed: None,
            positions: Vec::new(),
        }
    }

    fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Lets the returned maker prepare the next segments' files ahead of time.
    pub fn spares(&mut self) -> SpareMaker {
        let (spares, maker) = spare::pair(Arc::clone(&self.shared));
        self.spares = Some(spares);
        maker
    }

    /// Asks for a spare when three quarters of the active segment are used. Large groups need no
    /// spare: the zeros cost more than their syncs save.
    fn ask_for_spare(&mut self) {
        let (Some(active), Some(spares)) = (&self.active, &mut self.spares) else { return };
        let (groups, bytes) = self.groups;
        if active.room_end.since(self.end) < self.segment_bytes / 4
            && bytes < groups * LARGE_GROUP_BYTES
        {
            spares.ask(SEGMENT_HEADER_BYTES + self.segment_bytes);
        }
    }

    /// Returns the active segment if `bytes` fit into it, otherwise a new segment.
    fn segment_with_room(&mut self, bytes: u64) -> Result<Arc<Segment>, AppendError> {
        if let Some(active) = &self.active
            && self.end.plus(bytes) <= active.room_end
            && !(self.shared.is_seal_asked(active.segment.first) && active.segment.first < self.end)
        {
            return Ok(Arc::clone(&active.segment));
        }
        self.seal_active()?;
        self.make_active(bytes)
    }

    /// Gives back the unused space of the active segment and syncs the segment. The file keeps its
    /// length, so that a copy made meanwhile is not taken for a copy that broke off. A segment
    /// without frames is left as it is, because it will be made larger.
    fn seal_active(&mut self) -> Result<(), AppendError> {
        let Some(Active { segment, .. }) = self.active.take() else { return Ok(()) };
        if segment.first == self.end {
            return Ok(());
        }
        self.or_fail(whole(&segment))?;
        let (files, from) = (&self.shared.files, segment.offset_of(self.end));
        let to = segment.length().unwrap_or(from);
        let sealed = files.erase(&segment.file, from, to);
        self.or_fail(sealed.and_then(|()| files.sync_all(&segment.file)))?;
        self.drop_cache_behind();
        tracing::debug!(segment = %segment.path.display(), end = %self.end, "the segment is \
            complete");
        Ok(())
    }

    /// Drops all but the last two segments from the page cache. Events that are delivered soon are
    /// read from the last two, and the pages of the next segment replace the dropped pages instead
    /// of others.
    fn drop_cache_behind(&self) {
        let segments = self.shared.segments();
        let Some(behind) = segments.len().checked_sub(2).and_then(|place| segments.get(place))
        else {
            return;
        };
        if let Err(error) = self.shared.files.drop_cache(&behind.file) {
            tracing::debug!(%error, segment = %behind.path.display(), "the kernel keeps the \
                segment in memory");
        }
    }

    /// Creates the segment that begins at the end of the log, with room for at least `bytes`. If
    /// the disk has no space for a segment of the usual size, the segment is smaller: what gives
    /// space back has to be written first, such as confirmations, erasures and expiry.
    pub(super) fn make_active(&mut self, bytes: u64) -> Result<Arc<Segment>, AppendError> {
        let (mut room, room_min) = (self.segment_bytes.max(bytes), ROOM_MIN.max(bytes));
        loop {
            match self.make_active_with(room) {
                Err(AppendError::NoSpace(_)) if room > room_min => room = room_min.max(room / 2),
                made => return made,
            }
        }
    }

    /// Creates the segment that begins at the end of the log.
    fn make_active_with(&mut self, room: u64) -> Result<Arc<Segment>, AppendError> {
        let last = self.shared.segments().last().cloned();
        let (segment, len) = match last.filter(|last| last.first == self.end) {
            Some(empty) => {
                let len = self.remake(&empty, room)?;
                (empty, len)
            }
            None => (self.make_next(room)?, SEGMENT_HEADER_BYTES + room),
        };
        segment.length_is(len);
        let room_end = segment.position_at(len);
        let active = Active { segment: Arc::clone(&segment), room_end };
        self.active = Some(active);
        self.groups = (0, 0);
        Ok(segment)
    }

    fn make_next(&mut self, room: u64) -> Result<Arc<Segment>, AppendError> {
        let path = segment::path_of(&self.shared.dir, self.end);
        let spare =
            self.spares.as_mut().and_then(|spares| spares.take(SEGMENT_HEADER_BYTES + room));
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

    /// Turns a file of zeros into a segment. The name comes last, so that every file with a
    /// segment's name has a header and its whole length. `None` if the file cannot be named.
    fn name_spare(&mut self, spare: &File, path: &Path) -> Result<Option<File>, AppendError> {
        self.write_header(spare)?;
        let files = Arc::clone(&self.shared.files);
        if self.or_no_space(new_file::give_name(files.as_ref(), spare, path))? {
            return self.open_named(path).map(Some);
        }
        Ok(None)
    }

    /// Opens a segment that just got its name, and brings the name to stable storage.
    fn open_named(&mut self, path: &Path) -> Result<File, AppendError> {
        let files = Arc::clone(&self.shared.files);
        let file = self.or_fail(new_file::open_named(files.as_ref(), path))?;
        self.or_fail(files.sync_dir(&self.shared.dir))?;
        Ok(file)
    }

    /// Makes a segment without a spare.
    fn make_file(&mut self, path: &Path, room: u64) -> Result<File, AppendError> {
        let files = Arc::clone(&self.shared.files);
        let unnamed = new_file::create_unnamed(files.as_ref(), &self.shared.dir);
        if let Some(file) = self.or_no_space(unnamed)? {
            self.prepare(&file, room)?;
            if let Some(named) = self.name_spare(&file, path)? {
                return Ok(named);
            }
        }
        let draft = new_file::draft_of(path);
        let file = self.or_no_space(new_file::create_draft(files.as_ref(), &draft))?;
        let prepared = self.prepare(&file, room).and_then(|()| self.write_header(&file));
        if let Err(AppendError::NoSpace(kind)) = prepared {
            self.or_fail(files.remove(&draft))?;
            return Err(AppendError::NoSpace(kind));
        }
        prepared?;
        self.or_fail(files.rename(&draft, path))?;
        self.open_named(path)
    }

    /// Makes a segment without frames large enough, and writes its header for this file. Name and
    /// header exist at all times, and the file never becomes shorter. Returns its length in bytes.
    fn remake(&mut self, empty: &Segment, room: u64) -> Result<u64, AppendError> {
        let files = Arc::clone(&self.shared.files);
        let facts = self.or_fail(files.metadata(&empty.file))?;
        let len = facts.len.max(SEGMENT_HEADER_BYTES + room);
        empty.length_changes();
        self.or_no_space(files.allocate(&empty.file, len))?;
        // A copy of this moment may have the new header and the former length.
        let header = segment::encode_header(self.end, facts);
        self.or_no_space(files.write_all_at(&empty.file, &header, 0))?;
        self.or_fail(files.sync_all(&empty.file))?;
        Ok(len)
    }

    /// Makes an empty file a file full of zeros, so that the sync of a group never has to write a
    /// length. The first segment of a log is filled, which takes a moment at the first start. Later
    /// segments come here only if no spare is ready, and then a caller waits.
    fn prepare(&mut self, file: &File, room: u64) -> Result<(), AppendError> {
        let files = Arc::clone(&self.shared.files);
        let len = SEGMENT_HEADER_BYTES + room;
        let is_first = self.end == Position::FIRST;
        let made = self.shared.require_room(len).and_then(|()| {
            if is_first {
                spare::fill(files.as_ref(), file, len)
            } else {
                files.allocate(file, len)
            }
        });
        self.or_no_space(made)
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
            Some(cause) => Err(AppendError::Fatal(io::Error::other(format!(
                "an operation failed before: {cause}"
            )))),
            None => Ok(()),
        }
    }

    /// Returns a success unchanged. After any error this writer refuses everything: after a failed
    /// sync the kernel may have dropped unwritten pages, and a second sync would succeed without
    /// them.
    fn or_fail<T>(&mut self, result: io::Result<T>) -> Result<T, AppendError> {
        result.map_err(|e| {
            self.failed = Some(e.to_string());
            AppendError::Fatal(e)
        })
    }

    /// Like [`Self::or_fail`], for operations after which a full disk is no failure.
    fn or_no_space<T>(&mut self, result: io::Result<T>) -> Result<T, AppendError> {
        match result {
            Err(e) if is_no_space(&e) => Err(AppendError::NoSpace(e.kind())),
            other => self.or_fail(other),
        }
    }
}

impl Log for Writer {
    fn append(&mut self, group: &mut Group) -> Result<Appended<'_>, AppendError> {
        self.refuse_after_failure()?;
        self.positions.clear();
        if group.is_empty() {
            return Ok(Appended { positions: &self.positions, end: self.end });
        }
        let segment = self.segment_with_room(group.bytes() as u64)?;
        let bytes = group.stamp(self.end, &mut self.positions);
        let (files, offset) = (&self.shared.files, segment.offset_of(self.end));
        let written = failpoint::write(&segment.file, bytes, offset)
            .unwrap_or_else(|| files.write_all_at(&segment.file, bytes, offset))
            .and_then(|()| files.sync_data(&segment.file));
        self.or_fail(written.or_else(|error| {
            if failpoint::is_on(Switch::IgnoreFailedSync) { Ok(()) } else { Err(error) }
        }))?;
        let from = self.end;
        self.end = from.plus(group.bytes() as u64);
        self.groups = (self.groups.0 + 1, self.groups.1 + group.bytes() as u64);
        self.shared.publish(from, self.end);
        self.ask_for_spare();
        Ok(Appended { positions: &self.positions, end: self.end })
    }
}

impl ReadLog for Writer {
    fn first(&self) -> Position {
        self.reader().first()
    }

    fn end(&self) -> Position {
        self.end
    }

    fn read(&self, position: Position) -> Result<RawRecord<'static>, ReadError> {
        self.reader().read(position)
    }

    fn follow(&self, from: Position) -> Result<Box<dyn Follow>, ReadError> {
        self.reader().follow(from)
    }

    fn is_damaged(&self) -> bool {
        self.reader().is_damaged()
    }
}

/// Checks that the file has the length that the writer gave it. If somebody cut the file, sealing
/// would turn the lost bytes into zeros and hide the loss.
fn whole(segment: &Segment) -> io::Result<()> {
    let (is, path) = (segment.file.metadata()?.len(), segment.path.display());
    match segment.length().filter(|was| *was != is) {
        None => Ok(()),
        Some(was) => Err(io::Error::other(format!(
            "{path} is {is} bytes long, but was made {was} bytes long"
        ))),
    }
}
