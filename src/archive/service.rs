//! Archives events before they expire, on a thread of its own, because a directory on another
//! machine may not answer. The retention asks, waits for a moment, and lets no event expire before
//! it is durable in a file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::directory::Directory;
use super::file::{ArchiveFile, Draft, EXPIRED, EXTENSION, salvage};
use crate::base::library_errors::io_words;
use crate::commit::Engine;
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::model::retention::Cutoffs;
use crate::model::time::Timestamp;

/// Length at which a file is finished and the next one begins, in bytes.
const FILE_BYTES: u64 = 64 << 20;
/// Time after which a batch without an answer counts as a failure.
const SLOW: Duration = Duration::from_mins(1);
/// Pause of the retention after a batch that could not be archived.
const REST: Duration = Duration::from_secs(5);
/// How often a batch is written again because an event in it was erased meanwhile.
const TRIES_MAX: u32 = 4;
/// Number of requests, and of answers, that wait in their channel.
const WAITING_MAX: usize = 4;

/// Events that are about to expire.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The organization of the events.
    pub org: OrgNo,
    /// Its public id.
    pub org_id: OrgId,
    /// The first event of each block.
    pub blocks: Vec<EventId>,
    /// The times that decide which events of the blocks expire.
    pub cutoffs: Cutoffs,
}

/// An event as one line of JSON.
#[derive(Debug)]
pub struct Line {
    /// The JSON, without a line break.
    pub json: Vec<u8>,
    /// True if the payload is left out because it is erased.
    pub is_erased: bool,
    /// The reason, in words, why the record of the event cannot be read; none if it can be.
    pub unreadable: Option<String>,
}

/// Returns the line of an event; none if the event does not exist any more.
pub type Lines = Box<dyn Fn((OrgNo, OrgId), EventId) -> Result<Option<Line>, String> + Send + Sync>;

/// The state of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Its events are durable in the archive.
    Done,
    /// Nothing of it is archived, because an event in the block that begins with this one cannot
    /// be read.
    Unreadable(EventId),
    /// It could not be archived.
    Failed,
    /// It is being written.
    Waits,
}

enum Request {
    Write(u64, Batch),
    /// Finishes the open file.
    Close,
}

/// The retention's end of the service.
pub struct Archiver {
    requests: Sender<Request>,
    answers: Receiver<(u64, Written)>,
    /// The number of the last batch.
    last: u64,
    /// When the last batch was asked for; none once it was said that the answer is late.
    asked_at: Option<Instant>,
    failed_at: Option<Instant>,
    fails: Arc<AtomicBool>,
}

/// The thread's end of the service.
pub struct Service {
    requests: Receiver<Request>,
    answers: Sender<(u64, Written)>,
    writer: Writer,
}

struct Writer {
    engine: Arc<Engine>,
    directory: Directory,
    lines: Lines,
    /// Set while batches cannot be archived, for `/health`.
    fails: Arc<AtomicBool>,
    is_salvaged: bool,
    open: Option<ArchiveFile>,
}

/// The result of an attempt to archive events.
enum Attempt {
    /// So many events are durable.
    Archived(u64),
    /// An event was erased meanwhile: its payload is taken back.
    Erased,
    /// This event cannot be read, for this reason: nothing is archived.
    Unreadable(EventId, String),
}

impl Archiver {
    /// Makes both ends of the service for this directory, of the server with this data directory.
    pub fn new(
        engine: &Arc<Engine>,
        (directory, data_dir): (&Path, &Path),
        lines: Lines,
        fails: Arc<AtomicBool>,
    ) -> (Self, Service) {
        let (requests, asked) = bounded(WAITING_MAX);
        let (answers, answered) = bounded(WAITING_MAX);
        let (engine, told) = (Arc::clone(engine), Arc::clone(&fails));
        let directory = Directory::new(directory.to_owned(), data_dir.to_owned());
        let writer = Writer { engine, directory, lines, fails, is_salvaged: false, open: None };
        let archiver = Self {
            requests,
            answers: answered,
            last: 0,
            asked_at: None,
            failed_at: None,
            fails: told,
        };
        (archiver, Service { requests: asked, answers, writer })
    }

    /// Asks for a batch, and returns its number. None if the thread is still busy with others.
    pub fn ask(&mut self, batch: Batch) -> Option<u64> {
        while self.answers.try_recv().is_ok() {}
        let number = self.last.wrapping_add(1);
        self.requests.try_send(Request::Write(number, batch)).ok()?;
        (self.last, self.asked_at) = (number, Some(Instant::now()));
        Some(number)
    }

    /// Waits for the batch of this number.
    pub fn wait(&mut self, number: u64, at_most: Duration) -> Written {
        let deadline = Instant::now() + at_most;
        loop {
            match self.answers.recv_deadline(deadline) {
                Ok((answered, written)) if answered == number => {
                    if written == Written::Failed {
                        self.failed_at = Some(Instant::now());
                    }
                    return written;
                }
                // The answer to a batch that nobody waits for.
                Ok(_) => {}
                Err(_timeout) => {
                    self.tell_late();
                    return Written::Waits;
                }
            }
        }
    }

    fn tell_late(&mut self) {
        if self.asked_at.is_some_and(|at| at.elapsed() >= SLOW) {
            self.asked_at = None;
            self.fails.store(true, Ordering::SeqCst);
            tracing::error!(
                "[retention] archive_directory does not answer, so no event expires; its disk \
                 space does not come back until it does"
            );
        }
    }

    /// Returns true for a moment after a failure.
    pub fn rests(&self) -> bool {
        self.failed_at.is_some_and(|at| at.elapsed() < REST)
    }

    /// Has the open file finished, so that it gets its name.
    pub fn close(&self) {
        // A busy thread finishes the file later.
        drop(self.requests.try_send(Request::Close));
    }
}

impl Service {
    /// Works until the retention ends.
    pub fn run(mut self) {
        self.writer.look();
        while let Ok(request) = self.requests.recv() {
            match request {
                Request::Close => {
                    self.writer.close();
                    self.writer.look();
                }
                Request::Write(number, batch) => {
                    let written = self.writer.take(&batch);
                    if self.answers.send((number, written)).is_err() {
                        break;
                    }
                }
            }
        }
        self.writer.close();
    }
}

impl Writer {
    /// Archives the batch.
    fn take(&mut self, batch: &Batch) -> Written {
        let (written, unreadable) = match self.write(batch) {
            Ok(Attempt::Unreadable(event, why)) => (Ok(0), Some((event, why))),
            Ok(Attempt::Archived(events)) => (Ok(events), None),
            Ok(Attempt::Erased) => {
                let why = "events were erased again and again while they were archived";
                (Err(why.to_owned()), None)
            }
            Err(why) => (Err(why), None),
        };
        if !self.report(&written) {
            return Written::Failed;
        }
        let Some((event, why)) = unreadable else { return Written::Done };
        self.tell_unreadable(event, &why);
        let before = batch.blocks.iter().copied().filter(|first| *first <= event);
        Written::Unreadable(before.max().unwrap_or(event))
    }

    /// Tells about an event whose record is damaged. The archive itself works.
    fn tell_unreadable(&self, event: EventId, why: &str) {
        self.engine.metrics.archive_failures.inc();
        tracing::error!(
            %event,
            why,
            "this event cannot be read, so it is not archived and does not expire, nor do at most \
             63 events beside it; all others do. `triggerd verify` shows what is damaged"
        );
    }

    /// Finishes the files that a crash left, so that a directory which cannot be used is noticed
    /// before the first event expires.
    fn look(&mut self) {
        if !self.is_salvaged {
            let looked = self.prepare().map(|()| 0);
            self.report(&looked);
        }
    }

    fn prepare(&mut self) -> Result<(), String> {
        if !self.is_salvaged {
            self.directory.open()?;
            salvage(self.directory.path()).map_err(words)?;
            self.is_salvaged = true;
        }
        Ok(())
    }

    /// Counts and logs. Returns true if nothing failed.
    fn report(&self, written: &Result<u64, String>) -> bool {
        let failed_before = self.fails.swap(written.is_err(), Ordering::SeqCst);
        let directory = self.directory.path().display();
        match written {
            Ok(events) => {
                self.engine.metrics.archived_events.inc_by(*events);
                if failed_before {
                    tracing::info!(%directory, "events are archived again, and expire again");
                }
            }
            Err(why) => {
                self.engine.metrics.archive_failures.inc();
                tracing::error!(
                    %directory,
                    why,
                    "events cannot be archived, so they do not expire: [retention] \
                     archive_directory. Their disk space does not come back until this is mended"
                );
            }
        }
        written.is_ok()
    }

    fn write(&mut self, batch: &Batch) -> Result<Attempt, String> {
        self.prepare()?;
        for _ in 0..TRIES_MAX {
            let Batch { org, blocks, cutoffs, .. } = batch;
            let expiring = self.engine.store.expiring_events(*org, blocks, *cutoffs);
            let events = expiring.map_err(|error| error.to_string())?;
            match self.write_once(batch, &events)? {
                Attempt::Erased => {}
                attempt => return Ok(attempt),
            }
        }
        Ok(Attempt::Erased)
    }

    /// Archives the events once.
    fn write_once(&mut self, batch: &Batch, events: &[EventId]) -> Result<Attempt, String> {
        let Some(first) = events.first() else { return Ok(Attempt::Archived(0)) };
        let mut file = match self.open.take() {
            Some(file) => file,
            None => self.create(*first)?,
        };
        match self.add(&mut file, batch, events) {
            Ok(attempt) => {
                self.open = Some(file);
                if self.open.as_ref().is_some_and(|file| file.len() >= FILE_BYTES) {
                    self.close();
                }
                Ok(attempt)
            }
            Err(why) => {
                // A file that cannot be cut keeps its draft's name, and is finished later.
                self.is_salvaged = false;
                if file.undo().is_ok() {
                    self.finish(file);
                }
                Err(why)
            }
        }
    }

    fn add(
        &self,
        file: &mut ArchiveFile,
        batch: &Batch,
        events: &[EventId],
    ) -> Result<Attempt, String> {
        let (mut archived, mut shown) = (0, Vec::new());
        for event in events {
            let Some(line) = (self.lines)((batch.org, batch.org_id), *event)? else { continue };
            if let Some(why) = line.unreadable {
                file.undo().map_err(words)?;
                return Ok(Attempt::Unreadable(*event, why));
            }
            file.add(&line.json).map_err(words)?;
            archived += 1;
            if !line.is_erased {
                shown.push(*event);
            }
        }
        let before = file.sync().map_err(words)?;
        for event in shown {
            let known = self.engine.store.event(batch.org, event);
            let known = known.map_err(|error| error.to_string())?;
            if known.is_some_and(|known| known.erased_at.is_some()) {
                file.cut(before).map_err(words)?;
                return Ok(Attempt::Erased);
            }
        }
        Ok(Attempt::Archived(archived))
    }

    /// Begins a file, named by the present time and its first event.
    fn create(&self, first: EventId) -> Result<ArchiveFile, String> {
        self.directory.require_marker()?;
        let at = Timestamp(self.engine.clock.now_ms()).to_string().replace(':', "-");
        let name = format!("{EXPIRED}{at}-{first}.{EXTENSION}");
        ArchiveFile::create(&self.directory.path().join(name), Draft::Kept).map_err(words)
    }

    fn close(&mut self) {
        if let Some(file) = self.open.take() {
            self.finish(file);
        }
    }

    /// Gives a file its name. All that is in it is durable, whether this succeeds or not.
    fn finish(&mut self, file: ArchiveFile) {
        if let Err(error) = file.finish() {
            tracing::warn!(%error, "an archive keeps the name that ends in .new for now");
            self.is_salvaged = false;
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn words(error: io::Error) -> String {
    io_words(&error)
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
