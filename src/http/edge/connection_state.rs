//! The state of a connection, and the rules by which arriving bytes are passed on. This is the part
//! of `connection` without I/O.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::sync::Notify;

use crate::base::failpoint::{self, Switch};
use crate::http::edge::framing::{Chunks, Head, Malformed};
use crate::http::error::Code;

/// Maximum number of early bytes held back.
pub(in crate::http) const HELD_BYTES_MAX: usize = 4 << 10;
/// Maximum size of a head in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Heads up to this size are not counted: the connection's buffer is as large.
const HEAD_BYTES_FREE: usize = 8 << 10;
/// Bytes that count as progress: a peer that moves as many within the time of its rank is never
/// ended to make room.
const PROGRESS_BYTES: usize = 4 << 10;
/// Maximum bytes of arriving heads beyond `HEAD_BYTES_FREE`, for all connections of a worker
/// together.
const HEADS_BYTES_MAX: usize = 16 << 20;
/// A stall that begins within this time after the previous stall ended counts as the same stall.
const SAME_STALL_WITHIN: Duration = Duration::from_secs(1);

/// The decision about the connection's future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Outlook {
    /// The connection goes on.
    Open,
    /// The connection is refused with this code, then closed.
    Refused(Code),
    /// The connection has no request and makes room, unless the next request is here already.
    Yielding,
    /// The connection closes as if the peer had closed.
    Closing,
    /// The connection ends now, even with a request in hand.
    Ended,
}

/// The connection's place in the cycle of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Phase {
    /// No request is in hand: the next head is awaited or arrives.
    Head,
    /// A body arrives, with this number of bytes still to come.
    Body(u64),
    /// A body of unknown length arrives in chunks.
    Chunked,
    /// The request in hand has arrived completely, and the server works on the answer.
    Answer,
    /// The request was answered before all of its body came. The rest is read and discarded for a
    /// moment, then the connection closes.
    Rest,
}

/// The part of some bytes that is passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct Portion {
    /// Number of bytes passed on; the others wait.
    pub(in crate::http) bytes: usize,
    /// Index at which the header `content-length: 0` is inserted, if the head needs a length.
    pub(in crate::http) amend_at: Option<usize>,
}

impl Portion {
    fn of(bytes: usize) -> Self {
        Self { bytes, amend_at: None }
    }
}

/// An answer that the peer does not take.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Stall {
    pub(in crate::http) since: Instant,
    /// Number of bytes taken since then.
    pub(in crate::http) taken: usize,
}

/// The peer's pace, while the server waits for bytes of a body or for an answer to be taken.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// The time since which the server waits without progress; `None` if the server does not wait.
    since: Option<Instant>,
    /// Number of bytes moved since then.
    bytes: usize,
}

/// The state of a worker that its connections need.
#[derive(Debug, Default)]
pub(in crate::http) struct Pressure {
    /// Bytes of large heads that are arriving.
    pub(in crate::http) heads_bytes: Cell<usize>,
    /// Set while the worker has too many connections.
    pub(in crate::http) is_crowded: Cell<bool>,
}

/// The state of a connection, shared by its reader, its requests and the task that watches
/// connections.
#[derive(Debug)]
pub(in crate::http) struct Shared {
    pub(in crate::http) outlook: Cell<Outlook>,
    /// The party that holds the connection; `None` if its address says nothing about this.
    pub(in crate::http) holder: Option<IpAddr>,
    /// The time at which the outlook was set, or the request in hand was asked to end.
    pub(in crate::http) outlook_since: Cell<Instant>,
    pub(in crate::http) phase: Cell<Phase>,
    /// When the request in hand began, or when the previous request was answered.
    pub(in crate::http) since: Cell<Instant>,
    /// When the arriving head began; `None` while no head arrives.
    pub(in crate::http) head_began: Cell<Option<Instant>>,
    /// Since when the connection has no request: from the end of the previous request, or from the
    /// first look of the server that found no whole head. `None` before this look, and while a
    /// request is in hand.
    pub(in crate::http) vacant_since: Cell<Option<Instant>>,
    pace: Cell<Pace>,
    /// Set while the request in hand only waits and can be answered early.
    pub(in crate::http) waits: Cell<bool>,
    /// Set when the connection is to close after the request in hand.
    pub(in crate::http) leaving: Cell<bool>,
    /// When the connection was chosen to close after its next answer, should there still be too
    /// many connections then. The request in hand goes on.
    pub(in crate::http) marked: Cell<Option<Instant>>,
    pub(in crate::http) stall: Cell<Option<Stall>>,
    pub(in crate::http) is_stalled: Cell<bool>,
    pub(in crate::http) flushed: Cell<Instant>,
    /// Set when nothing more is written, and the connection closes as soon as all was taken.
    pub(in crate::http) is_closing: Cell<bool>,
    /// Set when a request has begun since the socket last took all bytes: the next bytes are then
    /// triggerd's answer, and otherwise actix's own.
    pub(in crate::http) writes_ours: Cell<bool>,
    /// Set when the peer has finished sending.
    pub(in crate::http) eof: Cell<bool>,
    pub(in crate::http) held: RefCell<BytesMut>,
    /// The parser of the arriving head.
    head: RefCell<Head>,
    /// The parser of the arriving chunked body.
    chunks: Cell<Chunks>,
    /// Set when the chunked body is malformed.
    pub(in crate::http) is_malformed: Cell<bool>,
    /// Set when no request can follow the request in hand.
    pub(in crate::http) is_last: Cell<bool>,
    /// Set after the last answer: nothing more is written.
    pub(in crate::http) is_over: Cell<bool>,
    /// Bytes of the arriving head so far.
    head_bytes: Cell<usize>,
    /// The state of the worker, shared by its connections.
    pressure: Rc<Pressure>,
    /// Bytes passed on behind the end of the last head.
    beyond: Cell<u64>,
    /// Set when a head was passed on: nothing more is passed on until actix has seen the head.
    pub(in crate::http) gate: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    pub(in crate::http) left: Notify,
}

impl Shared {
    pub(in crate::http) fn new(
        now: Instant,
        pressure: Rc<Pressure>,
        holder: Option<IpAddr>,
    ) -> Self {
        Self {
            holder,
            vacant_since: Cell::new(None),
            pace: Cell::default(),
            head_bytes: Cell::new(0),
            pressure,
            outlook: Cell::new(Outlook::Open),
            outlook_since: Cell::new(now),
            phase: Cell::new(Phase::Head),
            since: Cell::new(now),
            head_began: Cell::new(Some(now)),
            waits: Cell::new(false),
            leaving: Cell::new(false),
            marked: Cell::new(None),
            stall: Cell::new(None),
            is_stalled: Cell::new(false),
            flushed: Cell::new(now),
            is_closing: Cell::new(false),
            writes_ours: Cell::new(false),
            eof: Cell::new(false),
            held: RefCell::default(),
            head: RefCell::default(),
            chunks: Cell::default(),
            is_malformed: Cell::new(false),
            is_last: Cell::new(false),
            is_over: Cell::new(false),
            beyond: Cell::new(0),
            gate: Cell::new(false),
            waker: RefCell::new(None),
            left: Notify::new(),
        }
    }

    /// Sets the outlook and wakes the connection. A connection that has ended stays ended.
    pub(in crate::http) fn close_soon(&self, outlook: Outlook, now: Instant) {
        if self.outlook.get() == Outlook::Ended {
            return;
        }
        self.outlook.set(outlook);
        self.outlook_since.set(now);
        self.left.notify_one();
        self.wake();
    }

    /// Asks the request in hand, which only waits (for its turn, an event or its body), to end
    /// early.
    pub(in crate::http) fn ask_to_leave(&self, now: Instant) {
        self.leaving.set(true);
        self.outlook_since.set(now);
        self.left.notify_one();
    }

    /// Records that the server waits for the peer: for a request, for bytes of a body, or for an
    /// answer to be taken.
    pub(in crate::http) fn waits_for_peer(&self) {
        if self.phase.get() == Phase::Head && !self.is_stalled.get() {
            if self.vacant_since.get().is_none() {
                self.vacant_since.set(Some(Instant::now()));
            }
            return;
        }
        let pace = self.pace.get();
        if pace.since.is_none() {
            self.pace.set(Pace { since: Some(Instant::now()), ..pace });
        }
    }

    /// Records that the peer has sent or taken bytes.
    pub(in crate::http) fn moved(&self, bytes: usize) {
        let pace = self.pace.get();
        if pace.since.is_some() {
            let bytes = pace.bytes + bytes;
            let is_progress = bytes >= PROGRESS_BYTES;
            self.pace.set(if is_progress { Pace::default() } else { Pace { bytes, ..pace } });
        }
    }

    /// Records that the server does not wait for the peer any more.
    pub(in crate::http) fn came_along(&self) {
        self.pace.set(Pace::default());
    }

    /// Returns how long the server has waited for a body or a reader without progress.
    pub(in crate::http) fn without_progress(&self, now: Instant) -> Duration {
        self.pace.get().since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Returns the stall, if an answer is not being taken now.
    pub(in crate::http) fn stall(&self) -> Option<Stall> {
        self.stall.get().filter(|_| self.is_stalled.get())
    }

    /// Records that the peer took bytes of an answer.
    pub(in crate::http) fn took(&self, bytes: usize) {
        self.moved(bytes);
        if let Some(stall) = self.stall.get() {
            self.stall.set(Some(Stall { taken: stall.taken + bytes, ..stall }));
        }
    }

    /// Records that the peer takes no bytes of an answer now.
    pub(in crate::http) fn takes_nothing(&self) {
        let was_stalled = self.is_stalled.replace(true);
        self.waits_for_peer();
        let now = Instant::now();
        let is_same = now.saturating_duration_since(self.flushed.get()) < SAME_STALL_WITHIN;
        if !was_stalled && (!is_same || self.stall.get().is_none()) {
            self.measure_stall_from(now);
        }
    }

    /// Records that the peer has yet to take the last answer before the connection can close. From
    /// then on the connection is one with an untaken answer, whatever was decided before.
    pub(in crate::http) fn last_answer_is_untaken(&self) {
        if !self.is_stalled.replace(true) {
            self.outlook.set(Outlook::Open);
            self.leaving.set(false);
            self.came_along();
            self.waits_for_peer();
            self.measure_stall_from(Instant::now());
        }
    }

    /// Restarts the measurement of the stall.
    pub(in crate::http) fn measure_stall_from(&self, now: Instant) {
        self.stall.set(Some(Stall { since: now, taken: 0 }));
    }

    fn wake(&self) {
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(in crate::http) fn keep(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// True if nothing of the next head has come.
    pub(in crate::http) fn is_before_head(&self) -> bool {
        self.head_bytes.get() == 0 && self.held.borrow().is_empty()
    }

    /// Declares the answered request to be the last of its connection, if connections have run out
    /// and the connection is marked, or its peer sent another head ahead. Such a peer may never
    /// take the answers, and the work for them would keep others waiting.
    pub(in crate::http) fn leave_if_crowded(&self) {
        let is_ahead = || Head::default().take(&self.held.borrow()).is_some();
        if self.pressure.is_crowded.get() && (self.marked.get().is_some() || is_ahead()) {
            self.leaving.set(true);
        }
    }

    /// True if held bytes, or the peer's end, can be passed on now.
    pub(in crate::http) fn has_more(&self) -> bool {
        self.eof.get() || !self.held.borrow().is_empty()
    }

    pub(in crate::http) fn passes_on(&self) -> bool {
        if failpoint::is_on(Switch::ConnectionsUnwatched) {
            return true;
        }
        !self.is_stalled.get() && self.phase.get() != Phase::Answer
    }

    /// Records that the peer has finished sending, and wakes the waiting request.
    pub(in crate::http) fn ended_sending(&self) {
        self.eof.set(true);
        self.left.notify_one();
    }

    /// Returns the part of these bytes to pass on now: at most the rest of the request in hand, or
    /// the next head with its body.
    pub(in crate::http) fn portion(&self, bytes: &[u8]) -> Portion {
        match self.phase.get() {
            Phase::Answer | Phase::Rest => Portion::of(bytes.len()),
            Phase::Body(left) => {
                let portion = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.moved(portion);
                match left - portion as u64 {
                    0 => self.has_arrived(),
                    left => self.phase.set(Phase::Body(left)),
                }
                Portion::of(portion)
            }
            Phase::Chunked => Portion::of(self.chunks_of(bytes)),
            Phase::Head => self.head_of(bytes),
        }
    }

    /// True while the body of the request in hand arrives.
    pub(in crate::http) fn is_arriving(&self) -> bool {
        matches!(self.phase.get(), Phase::Body(_) | Phase::Chunked)
    }

    /// Records that the request in hand has arrived completely.
    pub(in crate::http) fn has_arrived(&self) {
        self.phase.set(Phase::Answer);
        self.came_along();
    }

    /// Returns how many of these bytes belong to a chunked body. A malformed body is cut before the
    /// fault, and the connection closes.
    fn chunks_of(&self, bytes: &[u8]) -> usize {
        let mut chunks = self.chunks.get();
        let taken = chunks.take(bytes);
        self.moved(bytes.len());
        self.chunks.set(chunks);
        match taken {
            Ok(None) => bytes.len(),
            Ok(Some(end)) => {
                self.has_arrived();
                end
            }
            Err(Malformed(right)) => {
                self.is_malformed.set(true);
                self.close_soon(Outlook::Closing, Instant::now());
                right
            }
        }
    }

    /// Returns the part of these bytes that belongs to a head, or to the body behind the head.
    fn head_of(&self, bytes: &[u8]) -> Portion {
        if self.head_began.get().is_none() {
            self.head_began.set(Some(Instant::now()));
        }
        let mut head = self.head.borrow_mut();
        let end = head.take(bytes);
        // A line may be inserted before the blank line, so the blank line must stay whole.
        let is_torn = end.is_none()
            && bytes.ends_with(b"\r")
            && head.lacks_length()
            && head.is_at_blank_line();
        let portion = end.map_or(bytes.len() - usize::from(is_torn), |(_, end)| end);
        self.head_grows(portion);
        if self.outlook.get() != Outlook::Open {
            return Portion::default();
        }
        let Some((blank_line, end)) = end else { return Portion::of(portion) };
        let behind = bytes.len() - end;
        let body = behind.min(usize::try_from(head.body_len()).unwrap_or(usize::MAX));
        let amend_at = head.lacks_length().then_some(blank_line);
        *head = Head::default();
        self.gate.set(true);
        self.vacant_since.set(None);
        self.beyond.set(body as u64);
        Portion { bytes: end + body, amend_at }
    }

    /// Counts further bytes of a head, and refuses the connection when there are too many.
    fn head_grows(&self, bytes: usize) {
        let large = |bytes: usize| bytes.saturating_sub(HEAD_BYTES_FREE);
        let before = self.head_bytes.get();
        let after = before + bytes;
        self.head_bytes.set(after);
        let heads_bytes = &self.pressure.heads_bytes;
        heads_bytes.set(heads_bytes.get() + large(after) - large(before));
        if after > HEAD_BYTES_MAX {
            self.close_soon(Outlook::Refused(Code::HeadTooLarge), Instant::now());
        } else if large(after) > 0 && heads_bytes.get() > HEADS_BYTES_MAX {
            self.close_soon(Outlook::Refused(Code::Overloaded), Instant::now());
        }
    }

    /// Stops counting a head, because the head is complete or the connection is gone.
    fn head_is_over(&self) {
        let bytes = self.head_bytes.take();
        let heads_bytes = &self.pressure.heads_bytes;
        heads_bytes.set(heads_bytes.get() - bytes.saturating_sub(HEAD_BYTES_FREE));
    }

    /// Begins a request; `body` is the phase for a body of this shape.
    pub(in crate::http) fn begin(&self, body: Phase) {
        self.head_is_over();
        self.writes_ours.set(true);
        self.vacant_since.set(None);
        self.came_along();
        let beyond = self.beyond.replace(0);
        self.phase.set(match body {
            Phase::Body(length) if length > beyond => Phase::Body(length - beyond),
            Phase::Body(_) | Phase::Answer | Phase::Head | Phase::Rest => Phase::Answer,
            Phase::Chunked => Phase::Chunked,
        });
        self.chunks.set(Chunks::default());
        self.since.set(Instant::now());
        self.head_began.set(None);
    }

    /// True if the request in hand must be the last, because the start of a next request is
    /// unknown.
    pub(in crate::http) fn is_cut_short(&self) -> bool {
        self.is_last.get()
            || matches!(self.phase.get(), Phase::Body(_) | Phase::Chunked | Phase::Rest)
    }

    /// Ends the request in hand, whether answered or abandoned.
    pub(in crate::http) fn end(&self) {
        let now = Instant::now();
        self.since.set(now);
        self.waits.set(false);
        if self.is_cut_short() {
            self.phase.set(Phase::Rest);
            self.held.take();
        } else {
            self.phase.set(Phase::Head);
        }
        // Bytes of the next head, if already here, had to wait for the server.
        let came = !self.held.borrow().is_empty();
        self.head_began.set(came.then_some(now));
        self.vacant_since.set((!came).then_some(now));
        if self.leaving.get() {
            self.close_soon(Outlook::Closing, now);
        } else if self.has_more() || self.phase.get() == Phase::Rest {
            self.wake();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.head_is_over();
    }
}

#[cfg(test)]
#[path = "connection_state_tests.rs"]
mod tests;
