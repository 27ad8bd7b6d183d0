//! A request and its answer over one connection. Called by the sender; knows nothing of their
//! contents.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::answer::{Body, Broken, Head, HeadReader};
use super::connector::{ConnectionTrace, Stream};

/// Maximum number of bytes in one read.
const READ_BYTES: usize = 4 << 10;

/// An established connection to a receiver.
pub(super) struct Link {
    pub(super) stream: Box<dyn Stream>,
    /// The trace of the connection.
    pub(super) trace: ConnectionTrace,
}

impl Link {
    /// Sends head and body of the request, and reads the head of the answer. Both happen at once,
    /// because a receiver may refuse a long request before its end. An answer counts even if the
    /// receiver did not read the whole request.
    ///
    /// # Errors
    /// No answer came; `reader` says if any byte came.
    pub(super) async fn exchange(
        &mut self,
        request: (&[u8], &[u8]),
        reader: &mut HeadReader,
    ) -> Result<Head, Broken> {
        let stream = &mut *self.stream;
        let mut exchange =
            Exchange { stream, head: request.0, body: request.1, is_flushed: false, refusal: None };
        let mut head = poll_fn(|cx| exchange.poll(cx, reader)).await?;
        if !exchange.is_flushed {
            head.ends_connection();
        }
        Ok(head)
    }

    /// Reads a body until it is complete or `is_enough` returns true.
    pub(super) async fn read(&mut self, body: &mut Body, is_enough: fn(&Body) -> bool) {
        let stream = &mut *self.stream;
        poll_fn(|cx| {
            while !body.is_read() && !is_enough(body) {
                let room = body.room();
                match ready!(poll_some(stream, cx, room, |bytes| body.feed(bytes))) {
                    Ok(true) => {}
                    // The status is known, so a broken body changes nothing.
                    Ok(false) | Err(_) => body.end(),
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// True if no byte arrived since the last answer, and the connection is not closed.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let is_pending = poll_some(&mut *self.stream, &mut cx, 1, |_| {}).is_pending();
        // The runtime may not have noticed yet what the system has received.
        is_pending && !self.stream.has_unread()
    }
}

struct Exchange<'a> {
    stream: &'a mut dyn Stream,
    /// The unsent part of the request's head.
    head: &'a [u8],
    /// The unsent part of the request's body.
    body: &'a [u8],
    is_flushed: bool,
    /// The error that ended sending. The answer may have arrived nevertheless.
    refusal: Option<io::Error>,
}

impl Exchange<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut HeadReader,
    ) -> Poll<Result<Head, Broken>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            self.refusal = Some(error);
        }
        loop {
            let mut fed = Ok(None);
            let room = reader.room();
            let read = poll_some(self.stream, cx, room, |bytes| fed = reader.feed(bytes));
            match ready!(read) {
                Ok(true) => {
                    if let Some(head) = fed? {
                        return Poll::Ready(Ok(head));
                    }
                }
                Ok(false) => return Poll::Ready(reader.end()),
                Err(error) => {
                    return Poll::Ready(Err(Broken::Io(self.refusal.take().unwrap_or(error))));
                }
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_flushed || self.refusal.is_some() {
            return Poll::Ready(Ok(()));
        }
        while !(self.head.is_empty() && self.body.is_empty()) {
            let parts = [IoSlice::new(self.head), IoSlice::new(self.body)];
            let sent = ready!(Pin::new(&mut *self.stream).poll_write_vectored(cx, &parts))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_body = sent.saturating_sub(self.head.len());
            self.head = self.head.get(sent..).unwrap_or_default();
            self.body = self.body.get(of_body..).unwrap_or_default();
        }
        ready!(Pin::new(&mut *self.stream).poll_flush(cx))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }
}

/// Reads at most `room` bytes; returns false at the end of the stream.
fn poll_some(
    stream: &mut dyn Stream,
    cx: &mut Context<'_>,
    room: usize,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<bool>> {
    let mut space = [0; READ_BYTES];
    let mut read = ReadBuf::new(space.get_mut(..room.min(READ_BYTES)).unwrap_or_default());
    match ready!(Pin::new(stream).poll_read(cx, &mut read)) {
        Ok(()) if read.filled().is_empty() => Poll::Ready(Ok(false)),
        Ok(()) => {
            take(read.filled());
            Poll::Ready(Ok(true))
        }
        // A TLS connection that ended without `close_notify`.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(false)),
        Err(error) => Poll::Ready(Err(error)),
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
