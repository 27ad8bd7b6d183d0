//! An accepted connection, between the socket and actix.
//!
//! actix limits only the time of a connection's first head. This module and `connections` watch
//! everything else. Every head has the same deadline. Nothing of the next request is read before
//! the peer has taken the previous answer, so a peer cannot make the server work ahead. A peer that
//! does not take its answer loses the connection. A peer that is gone ends its call.
//!
//! Early bytes, sent before the server wants any, are held back up to 4 KiB, so the server notices
//! when the peer closes. A reset ends the call at once. A peer that has only finished sending (as
//! `nc -N` does) gets its answer, but no call waits for such a peer: a waiting call uses
//! [`Handle::left`]. No call waits for a peer with more early bytes either: the server stops
//! reading from this peer, and could no longer notice its end.
//!
//! A connection closes when the peer has taken the last answer, and keeps its slot until then:
//! bytes in a closed socket would be limited by nothing. When a connection is ended instead, its
//! bytes are forgotten and the peer gets a reset.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_web::rt::net::TcpStream;
use bytes::{Buf as _, BytesMut};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::base::failpoint::{self, Switch};
use crate::base::peek::{Unread, peek};
use crate::base::{peer, unsent};
use crate::http::edge::connection_state::{HELD_BYTES_MAX, Outlook, Phase, Shared};
use crate::http::edge::connections::Slot;
use crate::http::edge::framing::NO_BODY;
use crate::http::edge::handle::Handle;
use crate::http::edge::own_answers;

/// Bytes that the kernel buffers until the peer reads them; the kernel takes twice this memory. By
/// default the kernel would take megabytes, which no limit of triggerd counts.
pub(in crate::http) const SEND_BUFFER_BYTES: usize = 32 << 10;
/// The same for the rest of a long answer, so that a distant peer gets it faster. The limit of
/// bytes of answers limits the number of long answers, too.
const LONG_SEND_BUFFER_BYTES: usize = 128 << 10;
/// Bytes after which an answer is long.
const LONG_ANSWER_BYTES: usize = 128 << 10;

/// The connection as actix sees it, with the socket inside.
#[derive(Debug)]
pub(in crate::http) struct Connection {
    stream: TcpStream,
    peer: Option<SocketAddr>,
    /// The answer written in place of an answer by actix itself, and the number of bytes already
    /// taken.
    instead: Option<(Vec<u8>, usize)>,
    /// The end of an amended head, passed on without further inspection.
    amended: BytesMut,
    /// When the answered request began, and the bytes written since then.
    written: (Instant, usize),
    shared: Rc<Shared>,
    /// Gives the slot among the worker's connections back.
    _slot: Slot,
}

impl Connection {
    pub(in crate::http) fn new(stream: TcpStream, slot: Slot) -> Self {
        let peer = stream.peer_addr().ok();
        let shared = Rc::clone(slot.shared());
        let written = (shared.since.get(), 0);
        Self { stream, peer, instead: None, amended: BytesMut::new(), written, shared, _slot: slot }
    }

    /// Returns the peer's address, or `None` if unknown.
    pub(in crate::http) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Returns the handle by which requests use this connection.
    pub(in crate::http) fn handle(&self) -> Handle {
        Handle::of(&self.shared)
    }

    /// Acts on the connection's outlook. Returns the result for the reader, or `None` while the
    /// connection goes on.
    fn meet(&mut self, cx: &mut Context<'_>) -> Option<io::Result<()>> {
        match self.shared.outlook.get() {
            Outlook::Open => None,
            Outlook::Refused(code) => {
                self.shared.outlook.set(Outlook::Closing);
                let answer = own_answers::refusal(code, self.peer);
                // This is tried only once, because the server does not wait for a slow peer.
                drop(Pin::new(&mut self.stream).poll_write(cx, &answer));
                self.shared.is_over.set(true);
                Some(Ok(()))
            }
            Outlook::Yielding
                if self.shared.is_before_head() && peek(&self.stream) == Unread::Bytes =>
            {
                // The request came in time, and the server had not looked yet.
                self.shared.outlook.set(Outlook::Open);
                None
            }
            Outlook::Yielding => {
                self.shared.outlook.set(Outlook::Closing);
                Some(Ok(()))
            }
            Outlook::Closing => Some(Ok(())),
            Outlook::Ended => Some(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    /// Passes bytes on as far as wanted, and holds the rest back.
    fn pass_on(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let shared = Rc::clone(&self.shared);
        loop {
            if let Some(end) = self.meet(cx) {
                return Poll::Ready(end);
            }
            if !shared.held.borrow().is_empty() {
                if self.pass_on_held(out) {
                    return Poll::Ready(Ok(()));
                }
                // Only a part of the blank line is here, and actix must get the line whole.
                let before = shared.held.borrow().len();
                if let Poll::Ready(failed) = self.hold_back(cx) {
                    return Poll::Ready(failed);
                }
                if shared.held.borrow().len() > before {
                    continue;
                }
                shared.waits_for_peer();
                return if shared.eof.get() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            if shared.eof.get() {
                return Poll::Ready(Ok(()));
            }
            let before = out.filled().len();
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, out) else {
                shared.waits_for_peer();
                return Poll::Pending;
            };
            read?;
            if out.filled().len() == before {
                shared.ended_sending();
                return Poll::Ready(Ok(()));
            }
            if failpoint::is_on(Switch::ConnectionsUnwatched) {
                return Poll::Ready(Ok(()));
            }
            self.hold_from(before, out);
            if out.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes the bytes read behind the index `before` that are not passed on now out of `out`, and
    /// holds them.
    fn hold_from(&mut self, before: usize, out: &mut ReadBuf<'_>) {
        let shared = Rc::clone(&self.shared);
        let read = out.filled().get(before..).unwrap_or_default();
        let portion = shared.portion(read);
        shared.held.borrow_mut().extend_from_slice(read.get(portion.bytes..).unwrap_or_default());
        if let Some(at) = portion.amend_at {
            self.amend(read.get(at..portion.bytes).unwrap_or_default());
        }
        out.set_filled(before + portion.amend_at.unwrap_or(portion.bytes));
        self.pass_on_amended(out);
    }

    /// Passes held bytes on as far as wanted. Returns true if there were any.
    fn pass_on_held(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let shared = Rc::clone(&self.shared);
        let mut held = shared.held.borrow_mut();
        let there = held.get(..held.len().min(out.remaining())).unwrap_or_default();
        let portion = shared.portion(there);
        let passed = there.get(..portion.bytes).unwrap_or_default();
        if let Some(at) = portion.amend_at {
            self.amend(passed.get(at..).unwrap_or_default());
        }
        out.put_slice(passed.get(..portion.amend_at.unwrap_or(portion.bytes)).unwrap_or_default());
        held.advance(portion.bytes);
        if held.is_empty() {
            *held = BytesMut::new();
        }
        self.pass_on_amended(out);
        portion.bytes > 0
    }

    /// Inserts the header `content-length: 0` before the end of a head.
    fn amend(&mut self, end_of_head: &[u8]) {
        self.amended.extend_from_slice(NO_BODY);
        self.amended.extend_from_slice(end_of_head);
    }

    fn pass_on_amended(&mut self, out: &mut ReadBuf<'_>) {
        let portion = self.amended.len().min(out.remaining());
        out.put_slice(&self.amended.split_to(portion));
    }

    /// Writes the answer in place of the answer by actix.
    fn write_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((answer, taken)) = &mut self.instead else { return Poll::Ready(Ok(())) };
        let rest = answer.get(*taken..).unwrap_or_default();
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
        *taken += written;
        if *taken < answer.len() && written > 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.instead = None;
        self.shared.is_over.set(true);
        Poll::Ready(Ok(()))
    }

    /// Reads and discards the bytes after the last answer.
    fn read_away(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut piece = [0; HELD_BYTES_MAX];
        while !self.shared.eof.get() {
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                self.shared.ended_sending();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives a long answer a larger buffer in the kernel, and takes it back at the next answer.
    fn fit_buffer(&mut self, taken: usize) {
        let (begun, before) = self.written;
        let is_same = begun == self.shared.since.get();
        let after = if is_same { before + taken } else { taken };
        self.written = (self.shared.since.get(), after);
        let was_long = before > LONG_ANSWER_BYTES;
        let is_long = after > LONG_ANSWER_BYTES;
        if was_long != is_long {
            let bytes = if is_long { LONG_SEND_BUFFER_BYTES } else { SEND_BUFFER_BYTES };
            if let Err(error) = set_socket_send_buffer_size(&self.stream, bytes) {
                tracing::debug!(%error, "a connection keeps its buffer");
            }
        }
    }

    /// Waits until the peer has taken the last answer, like for any other answer.
    fn poll_taken(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_taken = || -> io::Result<()> {
            if unsent::is_taken(&self.stream) {
                Ok(())
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        };
        if !self.shared.is_closing.replace(true) {
            unsent::prepare_to_close(&self.stream)?;
        }
        loop {
            let tried = self.stream.try_io(Interest::WRITABLE, is_taken);
            if !tried.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                self.shared.is_stalled.set(false);
                return Poll::Ready(Ok(()));
            }
            self.shared.last_answer_is_untaken();
            ready!(self.stream.poll_write_ready(cx))?;
        }
    }

    /// Reads early bytes into the held bytes, to notice when the peer is gone.
    fn hold_back(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &*self.shared;
        let mut held = shared.held.borrow_mut();
        while !shared.eof.get() && held.len() < HELD_BYTES_MAX {
            // This runs after every head and rarely finds bytes, so the buffer is not cleared
            // first.
            let mut piece = [const { MaybeUninit::uninit() }; HELD_BYTES_MAX];
            let room = HELD_BYTES_MAX - held.len();
            let mut piece = ReadBuf::uninit(piece.get_mut(..room).unwrap_or_default());
            if Pin::new(&mut self.stream).poll_read(cx, &mut piece)?.is_pending() {
                break;
            }
            if piece.filled().is_empty() {
                shared.ended_sending();
            }
            held.extend_from_slice(piece.filled());
        }
        if held.len() >= HELD_BYTES_MAX {
            shared.left.notify_one();
        }
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Log lines of actix about these bytes name this peer.
        peer::set(this.peer);
        this.shared.keep(cx.waker());
        if let Some(end) = this.meet(cx) {
            return Poll::Ready(end);
        }
        if !this.amended.is_empty() {
            this.pass_on_amended(out);
            return Poll::Ready(Ok(()));
        }
        if this.shared.phase.get() == Phase::Rest {
            return this.read_away(cx);
        }
        let was_gated = this.shared.gate.take();
        if this.shared.passes_on() && !was_gated {
            return this.pass_on(cx, out);
        }
        let held = this.hold_back(cx);
        // actix handles the head first; the wake makes actix read again afterwards.
        if held.is_pending() && was_gated && this.shared.has_more() {
            cx.waker().wake_by_ref();
        }
        held
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let shared = &*this.shared;
        shared.keep(cx.waker());
        if shared.outlook.get() == Outlook::Ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if shared.is_over.get() {
            return Poll::Ready(Ok(bytes.len()));
        }
        if this.instead.is_none() && !shared.writes_ours.get() {
            this.instead = own_answers::instead_of(bytes, this.peer).map(|answer| (answer, 0));
        }
        let written = if this.instead.is_some() {
            ready!(this.write_instead(cx))?;
            Poll::Ready(Ok(bytes.len()))
        } else {
            Pin::new(&mut this.stream).poll_write(cx, bytes)
        };
        match &written {
            Poll::Ready(Ok(taken)) => {
                this.shared.took(*taken);
                this.fit_buffer(*taken);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => this.shared.takes_nothing(),
        }
        written
    }

    /// Called by actix when the socket has taken all bytes.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.shared.outlook.get() == Outlook::Ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if this.shared.is_closing.get() {
            return Poll::Ready(Ok(()));
        }
        if matches!(this.shared.phase.get(), Phase::Head | Phase::Rest) {
            this.shared.writes_ours.set(false);
        }
        if this.shared.is_stalled.replace(false) {
            this.shared.came_along();
            this.shared.flushed.set(Instant::now());
            if this.shared.has_more() {
                cx.waker().wake_by_ref();
            }
        }
        if this.shared.phase.get() == Phase::Rest {
            this.shared.is_over.set(true);
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.shared.outlook.get() == Outlook::Ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        this.shared.keep(cx.waker());
        if this.shared.phase.get() == Phase::Rest {
            // Some peers take the answer only after they have sent the whole body. An error ends
            // the wait below, too.
            drop(this.read_away(cx));
        }
        if !failpoint::is_on(Switch::ConnectionsUnwatched) {
            ready!(this.poll_taken(cx))?;
        }
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        // Closing with unread bytes would take the answer from the peer.
        if this.shared.phase.get() == Phase::Rest && this.shared.outlook.get() == Outlook::Open {
            // An error means that the peer is gone, so nothing is left to wait for.
            drop(ready!(this.read_away(cx)));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if failpoint::is_on(Switch::ConnectionsUnwatched) {
            return;
        }
        let set = if self.shared.outlook.get() == Outlook::Ended {
            unsent::give_up(&self.stream)
        } else {
            unsent::limit_after_close(&self.stream)
        };
        if let Err(error) = set {
            tracing::debug!(%error, "a connection could not be prepared for its end");
        }
    }
}
