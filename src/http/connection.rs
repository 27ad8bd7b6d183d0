//! One accepted connection as actix reads and writes it, and what is known of it meanwhile.
//!
//! actix bounds only the time of a connection's first head. Everything else that a peer may do or leave undone is watched here and in
//! `connections`: each head has the same deadline; nothing is read of a next request before the answer to the one before it is
//! taken, so that nobody makes the server work ahead for them; an answer that is not taken ends the connection; and a
//! peer that is gone ends the call that it made.
//!
//! What arrives early is held back here, a few kilobytes of it, so that it is noticed when the peer closes. A peer that is gone for
//! good (reset) ends the call at once. One that has only finished sending (as `nc -N` does) gets its answer, but nothing waits
//! for it any more: who waits asks [`Handle::left`].

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use actix_web::rt::net::TcpStream;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::connections::Connections;
use crate::base::peer;
use crate::base::sabotage::{self, Switch};

/// Most bytes that are held back of what comes before it is wanted.
const HELD_BYTES_MAX: usize = 4 << 10;
/// An answer that waits again so soon after some of it was taken has waited all the time.
const SAME_STALL_MS: u128 = 1_000;

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Open,
    /// It is answered 408 and closed.
    TimedOut,
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
    stall: Cell<Option<Stall>>,
    is_stalled: Cell<bool>,
    flushed: Cell<Instant>,
    /// The peer has finished sending.
    eof: Cell<bool>,
    held: RefCell<BytesMut>,
    lines: Cell<Lines>,
    /// Bytes passed on behind the end of the last head.
    beyond: Cell<u64>,
    /// A head was passed on: nothing more is until it was looked at.
    gate: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    left: Notify,
}

impl Shared {
    fn new(now: Instant) -> Self {
        Self {
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
            eof: Cell::new(false),
            held: RefCell::default(),
            lines: Cell::default(),
            beyond: Cell::new(0),
            gate: Cell::new(false),
            waker: RefCell::new(None),
            left: Notify::new(),
        }
    }

    /// Decides what becomes of it; what was decided before stays unless it was less.
    pub(super) fn doom(&self, fate: Fate, now: Instant) {
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

    fn keep(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Whether there is something to pass on that was not wanted before.
    fn has_more(&self) -> bool {
        self.eof.get() || !self.held.borrow().is_empty()
    }

    fn passes_on(&self) -> bool {
        if sabotage::is_on(Switch::ConnectionsUnwatched) {
            return true;
        }
        !self.is_stalled.get() && self.phase.get() != Phase::Answer
    }

    /// The peer has finished sending.
    fn ended_sending(&self) {
        self.eof.set(true);
        self.left.notify_one();
    }

    /// How many of these bytes are passed on now; the others wait. A head goes alone when another one follows it.
    fn portion(&self, bytes: &[u8]) -> usize {
        match self.phase.get() {
            Phase::Answer => bytes.len(),
            Phase::Body(left) => {
                let portion = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                match left - portion as u64 {
                    0 => self.phase.set(Phase::Answer),
                    left => self.phase.set(Phase::Body(left)),
                }
                portion
            }
            Phase::Head | Phase::Chunked => {
                if self.phase.get() == Phase::Head && self.head_began.get().is_none() {
                    self.head_began.set(Some(Instant::now()));
                }
                let mut lines = self.lines.get();
                let Some(end) = lines.blank_line(bytes) else {
                    self.lines.set(lines);
                    return bytes.len();
                };
                self.lines.set(Lines::default());
                self.gate.set(true);
                let behind = bytes.get(end..).unwrap_or_default();
                let portion = if Lines::default().blank_line(behind).is_some() { end } else { bytes.len() };
                self.beyond.set((portion - end) as u64);
                portion
            }
        }
    }

    /// A request is in hand, with a body of this shape.
    fn begin(&self, body: Phase) {
        let beyond = self.beyond.replace(0);
        let phase = match body {
            Phase::Body(length) if length > beyond => Phase::Body(length - beyond),
            Phase::Body(_) | Phase::Answer | Phase::Head => Phase::Answer,
            Phase::Chunked => Phase::Chunked,
        };
        let length = if let Phase::Body(length) = body { length } else { 0 };
        let is_ahead = phase == Phase::Answer && beyond > length;
        self.phase.set(phase);
        self.lines.set(Lines::default());
        let now = Instant::now();
        self.since.set(now);
        self.head_began.set(is_ahead.then_some(now));
    }

    /// The request in hand was answered, or nobody answers it any more.
    fn end(&self) {
        let now = Instant::now();
        self.phase.set(Phase::Head);
        self.since.set(now);
        self.waits.set(false);
        // What came of the next head meanwhile waited for us.
        let came = self.head_began.get().is_some() || !self.held.borrow().is_empty();
        self.head_began.set(came.then_some(now));
        if self.leaving.get() {
            self.doom(Fate::Closing, now);
        } else if self.has_more() {
            self.wake();
        }
    }
}

/// Finds the end of a head, which is an empty line. It may find one too many, never one too few.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    /// Nothing but carriage returns came since the last line ended.
    is_empty: bool,
}

impl Lines {
    /// Where the first empty line ends.
    fn blank_line(&mut self, bytes: &[u8]) -> Option<usize> {
        for (place, byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' if self.is_empty => return Some(place + 1),
                b'\n' => self.is_empty = true,
                b'\r' => {}
                _ => self.is_empty = false,
            }
        }
        None
    }
}

/// The connection's end that actix has.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    peer: Option<SocketAddr>,
    shared: Rc<Shared>,
    number: u64,
    connections: Weak<Connections>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Instant, (number, connections): (u64, Weak<Connections>)) -> Self {
        let peer = stream.peer_addr().ok();
        Self { stream, peer, shared: Rc::new(Shared::new(now)), number, connections }
    }

    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    /// Whose it is.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// What requests on it know of it.
    pub(super) fn handle(&self) -> Handle {
        Handle(Rc::clone(&self.shared))
    }

    /// What was decided about it, done: its end as the reader sees it.
    fn meet(&mut self, cx: &mut Context<'_>) -> Option<io::Result<()>> {
        match self.shared.fate.get() {
            Fate::Open => None,
            Fate::TimedOut => {
                self.shared.fate.set(Fate::Closing);
                let answer = super::connections::too_slow();
                // What does not go out at once does not go out: nobody waits for a peer that is too slow.
                drop(Pin::new(&mut self.stream).poll_write(cx, &answer));
                Some(Ok(()))
            }
            Fate::Closing => Some(Ok(())),
            Fate::Ended => Some(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    /// Passes on what is wanted; what is not is held back.
    fn pass_on(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let shared = &*self.shared;
        let mut held = shared.held.borrow_mut();
        if !held.is_empty() {
            let there = held.get(..held.len().min(out.remaining())).unwrap_or_default();
            let portion = shared.portion(there);
            out.put_slice(there.get(..portion).unwrap_or_default());
            held.advance(portion);
            if held.is_empty() {
                *held = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        if shared.eof.get() {
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        let read = out.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            shared.ended_sending();
            return Poll::Ready(Ok(()));
        }
        if sabotage::is_on(Switch::ConnectionsUnwatched) {
            return Poll::Ready(Ok(()));
        }
        let portion = shared.portion(read);
        held.extend_from_slice(read.get(portion..).unwrap_or_default());
        out.set_filled(before + portion);
        Poll::Ready(Ok(()))
    }

    /// Reads what comes too early, as far as it is kept, to notice that the peer is gone.
    fn hold_back(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &*self.shared;
        let mut held = shared.held.borrow_mut();
        while !shared.eof.get() && held.len() < HELD_BYTES_MAX {
            let mut piece = [0; HELD_BYTES_MAX];
            let room = HELD_BYTES_MAX - held.len();
            let mut piece = ReadBuf::new(piece.get_mut(..room).unwrap_or_default());
            if Pin::new(&mut self.stream).poll_read(cx, &mut piece)?.is_pending() {
                break;
            }
            if piece.filled().is_empty() {
                shared.ended_sending();
            }
            held.extend_from_slice(piece.filled());
        }
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Whatever actix logs of what it reads is about this peer.
        peer::set(this.peer);
        this.shared.keep(cx.waker());
        if let Some(end) = this.meet(cx) {
            return Poll::Ready(end);
        }
        let was_gated = this.shared.gate.take();
        if this.shared.passes_on() && !was_gated {
            return this.pass_on(cx, out);
        }
        let held = this.hold_back(cx);
        // After a head actix looks at it first, and then asks again.
        if held.is_pending() && was_gated && this.shared.has_more() {
            cx.waker().wake_by_ref();
        }
        held
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let shared = &*this.shared;
        shared.keep(cx.waker());
        if shared.fate.get() == Fate::Ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        match &written {
            Poll::Ready(Ok(taken)) => {
                if let Some(stall) = shared.stall.get() {
                    shared.stall.set(Some(Stall { taken: stall.taken + taken, ..stall }));
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if !shared.is_stalled.replace(true) {
                    let now = Instant::now();
                    let is_same = now.saturating_duration_since(shared.flushed.get()).as_millis() < SAME_STALL_MS;
                    if !is_same || shared.stall.get().is_none() {
                        shared.measure_stall_from(now);
                    }
                }
            }
        }
        written
    }

    /// actix asks for it when all there was to write was taken.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.shared.fate.get() == Fate::Ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if this.shared.is_stalled.replace(false) {
            this.shared.flushed.set(Instant::now());
            if this.shared.has_more() {
                cx.waker().wake_by_ref();
            }
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(connections) = self.connections.upgrade() {
            connections.gone(self.number);
        }
    }
}

/// What a request knows of its connection.
#[derive(Clone, Debug)]
pub(super) struct Handle(Rc<Shared>);

impl Handle {
    /// A request with these headers is in hand until the guard is dropped.
    pub(super) fn begin(&self, headers: &HeaderMap) -> InHand {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = match length {
            _ if headers.contains_key(TRANSFER_ENCODING) => Phase::Chunked,
            Some(length) => Phase::Body(length),
            None => Phase::Answer,
        };
        self.0.begin(body);
        InHand(Rc::clone(&self.0))
    }

    /// The whole body was read.
    pub(super) fn body_is_read(&self) {
        if self.0.phase.get() == Phase::Chunked {
            self.0.phase.set(Phase::Answer);
        }
    }

    /// Whether the connection ends with this answer.
    pub(super) fn is_leaving(&self) -> bool {
        self.0.leaving.get()
    }

    /// The request does nothing but wait from now on: it can be answered early to make room for others.
    pub(super) fn waits(&self) {
        self.0.waits.set(true);
    }

    /// Completes when nothing should wait for this peer any more.
    pub(super) async fn left(&self) {
        while !(self.0.eof.get() || self.0.leaving.get() || self.0.fate.get() != Fate::Open) {
            self.0.left.notified().await;
        }
    }
}

/// A request is in hand as long as this is there.
#[derive(Debug)]
pub(super) struct InHand(Rc<Shared>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
