//! What is known of a connection, and what is passed on of what arrives on it: the part of `connection` that reads and writes
//! nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::Notify;

use super::error::Code;
use super::framing::{Chunks, Head, Malformed};
use crate::base::sabotage::{self, Switch};

/// Bytes of a head that are taken.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Heads up to this size count for nothing: the connection's buffer is as large.
const HEAD_BYTES_FREE: usize = 8 << 10;
/// Bytes of larger heads that may have arrived in part, all connections of a worker together.
const HEADS_BYTES_MAX: usize = 16 << 20;

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Open,
    /// It is refused with this, and closed.
    Refused(Code),
    /// It is closed as if the peer had done so.
    Closing,
    /// It ends now, with whatever is in hand.
    Ended,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request is in hand: a head is waited for or arrives.
    Head,
    /// So many bytes of the body of the request in hand have still to come.
    Body(u64),
    /// A body of unknown length arrives.
    Chunked,
    /// The request in hand is there as a whole and is answered.
    Answer,
    /// The request was answered before all of its body came: that is read away for a moment, and the connection closed.
    Rest,
}

/// What is passed on of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Portion {
    /// So many of them; the others wait.
    pub(super) bytes: usize,
    /// Where a line is put in that says that there is no body.
    pub(super) amend_at: Option<usize>,
}

impl Portion {
    fn of(bytes: usize) -> Self {
        Self { bytes, amend_at: None }
    }
}

/// An answer that the peer does not take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stall {
    pub(super) since: Instant,
    /// Bytes taken since then.
    pub(super) taken: usize,
}

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) fate: Cell<Fate>,
    /// Since when it is so.
    pub(super) fate_since: Cell<Instant>,
    pub(super) phase: Cell<Phase>,
    /// When the request in hand began, or the one before it was answered.
    pub(super) since: Cell<Instant>,
    /// When the head that arrives began.
    pub(super) head_began: Cell<Option<Instant>>,
    /// Whether the request in hand does nothing but wait, and can be answered early.
    pub(super) waits: Cell<bool>,
    /// Whether the connection is to be closed after the request in hand.
    pub(super) leaving: Cell<bool>,
    pub(super) stall: Cell<Option<Stall>>,
    pub(super) is_stalled: Cell<bool>,
    pub(super) flushed: Cell<Instant>,
    /// A request began since everything that there was to write was taken: what is written is an answer of ours, whatever it
    /// looks like. Otherwise actix answers by itself.
    pub(super) writes_ours: Cell<bool>,
    /// The peer has finished sending.
    pub(super) eof: Cell<bool>,
    pub(super) held: RefCell<BytesMut>,
    /// The head that arrives,
    head: RefCell<Head>,
    /// the body in chunks that arrives,
    chunks: Cell<Chunks>,
    /// and whether that is none.
    pub(super) is_malformed: Cell<bool>,
    /// No request can come behind the one in hand.
    pub(super) is_last: Cell<bool>,
    /// The last answer was written: nothing is written any more.
    pub(super) is_over: Cell<bool>,
    /// Bytes of the head that arrives,
    head_bytes: Cell<usize>,
    /// and of all large ones that arrive at this worker.
    heads: Rc<Cell<usize>>,
    /// Bytes passed on behind the end of the last head.
    beyond: Cell<u64>,
    /// A head was passed on: nothing more is until it was looked at.
    pub(super) gate: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    pub(super) left: Notify,
}

impl Shared {
    pub(super) fn new(now: Instant, heads: Rc<Cell<usize>>) -> Self {
        Self {
            head_bytes: Cell::new(0),
            heads,
            fate: Cell::new(Fate::Open),
            fate_since: Cell::new(now),
            phase: Cell::new(Phase::Head),
            since: Cell::new(now),
            head_began: Cell::new(Some(now)),
            waits: Cell::new(false),
            leaving: Cell::new(false),
            stall: Cell::new(None),
            is_stalled: Cell::new(false),
            flushed: Cell::new(now),
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

    /// Decides what becomes of it, whatever was decided before; but what has ended does not go on.
    pub(super) fn doom(&self, fate: Fate, now: Instant) {
        if self.fate.get() == Fate::Ended {
            return;
        }
        self.fate.set(fate);
        self.fate_since.set(now);
        self.left.notify_one();
        self.wake();
    }

    /// Asks the request in hand, which does nothing but wait, to end early.
    pub(super) fn ask_to_leave(&self) {
        self.leaving.set(true);
        self.left.notify_one();
    }

    /// The answer that is not taken, if there is one.
    pub(super) fn stall(&self) -> Option<Stall> {
        self.stall.get().filter(|_| self.is_stalled.get())
    }

    /// From now on it is measured anew.
    pub(super) fn measure_stall_from(&self, now: Instant) {
        self.stall.set(Some(Stall { since: now, taken: 0 }));
    }

    fn wake(&self) {
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn keep(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Whether there is something to pass on that was not wanted before.
    pub(super) fn has_more(&self) -> bool {
        self.eof.get() || !self.held.borrow().is_empty()
    }

    pub(super) fn passes_on(&self) -> bool {
        if sabotage::is_on(Switch::ConnectionsUnwatched) {
            return true;
        }
        !self.is_stalled.get() && self.phase.get() != Phase::Answer
    }

    /// The peer has finished sending.
    pub(super) fn ended_sending(&self) {
        self.eof.set(true);
        self.left.notify_one();
    }

    /// What of these bytes is passed on now: never more than the request in hand, or the head of the next one, has.
    pub(super) fn portion(&self, bytes: &[u8]) -> Portion {
        match self.phase.get() {
            Phase::Answer | Phase::Rest => Portion::of(bytes.len()),
            Phase::Body(left) => {
                let portion = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                match left - portion as u64 {
                    0 => self.phase.set(Phase::Answer),
                    left => self.phase.set(Phase::Body(left)),
                }
                Portion::of(portion)
            }
            Phase::Chunked => Portion::of(self.chunks_of(bytes)),
            Phase::Head => self.head_of(bytes),
        }
    }

    /// How many of these bytes belong to a body in chunks. One that is malformed breaks off where it is.
    fn chunks_of(&self, bytes: &[u8]) -> usize {
        let mut chunks = self.chunks.get();
        let taken = chunks.take(bytes);
        self.chunks.set(chunks);
        match taken {
            Ok(None) => bytes.len(),
            Ok(Some(end)) => {
                self.phase.set(Phase::Answer);
                end
            }
            Err(Malformed(right)) => {
                self.is_malformed.set(true);
                self.doom(Fate::Closing, Instant::now());
                right
            }
        }
    }

    /// What of these bytes belongs to a head, and to the body behind it as far as that came along.
    fn head_of(&self, bytes: &[u8]) -> Portion {
        if self.head_began.get().is_none() {
            self.head_began.set(Some(Instant::now()));
        }
        let mut head = self.head.borrow_mut();
        let end = head.take(bytes);
        // A line is put in before the blank one, so that one must not be torn apart.
        let is_torn = end.is_none() && bytes.ends_with(b"\r") && head.lacks_length() && head.is_at_blank_line();
        let portion = end.map_or(bytes.len() - usize::from(is_torn), |(_, end)| end);
        self.head_grows(portion);
        if self.fate.get() != Fate::Open {
            return Portion::default();
        }
        let Some((blank_line, end)) = end else { return Portion::of(portion) };
        let behind = bytes.len() - end;
        let body = behind.min(usize::try_from(head.body_len()).unwrap_or(usize::MAX));
        let amend_at = head.lacks_length().then_some(blank_line);
        *head = Head::default();
        self.gate.set(true);
        self.beyond.set(body as u64);
        Portion { bytes: end + body, amend_at }
    }

    /// So many bytes more of a head are here; it is refused when those are too many.
    fn head_grows(&self, bytes: usize) {
        let large = |bytes: usize| bytes.saturating_sub(HEAD_BYTES_FREE);
        let before = self.head_bytes.get();
        let after = before + bytes;
        self.head_bytes.set(after);
        self.heads.set(self.heads.get() + large(after) - large(before));
        if after > HEAD_BYTES_MAX {
            self.doom(Fate::Refused(Code::HeadTooLarge), Instant::now());
        } else if large(after) > 0 && self.heads.get() > HEADS_BYTES_MAX {
            self.doom(Fate::Refused(Code::Overloaded), Instant::now());
        }
    }

    /// The head is here, or will never be.
    fn head_is_over(&self) {
        let bytes = self.head_bytes.take();
        self.heads.set(self.heads.get() - bytes.saturating_sub(HEAD_BYTES_FREE));
    }

    /// A request is in hand, with a body of this shape.
    pub(super) fn begin(&self, body: Phase) {
        self.head_is_over();
        self.writes_ours.set(true);
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

    /// Whether the request in hand is the last one, because nobody can say where the next one begins.
    pub(super) fn is_cut_short(&self) -> bool {
        self.is_last.get() || matches!(self.phase.get(), Phase::Body(_) | Phase::Chunked | Phase::Rest)
    }

    /// The request in hand was answered, or nobody answers it any more.
    pub(super) fn end(&self) {
        let now = Instant::now();
        self.since.set(now);
        self.waits.set(false);
        if self.is_cut_short() {
            self.phase.set(Phase::Rest);
            self.held.take();
        } else {
            self.phase.set(Phase::Head);
        }
        // What came of the next head meanwhile waited for us.
        let came = !self.held.borrow().is_empty();
        self.head_began.set(came.then_some(now));
        if self.leaving.get() {
            self.doom(Fate::Closing, now);
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
