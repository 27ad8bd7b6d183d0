//! A stream in pieces, from a thread to a reader that may be slow. The thread waits for the reader.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Size of a piece, and the number of pieces that wait for the reader.
const PIECE_BYTES: usize = 64 << 10;
const PIECES: usize = 8;

/// The pieces as the reader gets them. An error in the place of a piece ends them.
pub type Received = mpsc::Receiver<io::Result<Bytes>>;

/// The open end of a stream.
#[derive(Debug)]
pub struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Pieces {
    /// Returns both ends of a stream.
    pub fn new() -> (Self, Received) {
        let (sender, received) = mpsc::channel(PIECES);
        (Self { sender, piece: Vec::new() }, received)
    }

    /// Adds to the piece that is sent next. Returns true if it is large enough to be sent.
    pub fn add(&mut self, bytes: &[u8]) -> bool {
        self.piece.extend_from_slice(bytes);
        self.piece.len() >= PIECE_BYTES
    }

    /// Breaks the stream off. The reader may have left before.
    pub fn break_off(&self, error: io::Error) {
        drop(self.sender.blocking_send(Err(error)));
    }

    /// Returns true if the reader has left.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.add(bytes) {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let sent = self.sender.blocking_send(Ok(std::mem::take(&mut self.piece).into()));
        sent.map_err(|_gone| io::Error::other("the reader has left"))
    }
}
