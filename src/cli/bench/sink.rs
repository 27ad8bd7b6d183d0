//! Where events are delivered to while the server is measured: answers 200 to everything and counts. Runs beside the load
//! on its thread, and does as little as there is to do, because it shares the machine with the server.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};

use super::connection::parse_request;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
/// The longest request that is read, in bytes: an event of the largest kind with everything around it.
const REQUEST_BYTES_MAX: usize = 10 << 20;

/// A webhook endpoint on a port of its own on the loopback address.
#[derive(Debug)]
pub(super) struct Sink {
    address: SocketAddr,
    seen: Rc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    count: Cell<u64>,
    last: Cell<Option<Instant>>,
}

impl Sink {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let seen = Rc::<Seen>::default();
        let task = spawn_local(accept(listener, Rc::clone(&seen)));
        Ok(Self { address, seen, task })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Requests so far.
    pub(super) fn count(&self) -> u64 {
        self.seen.count.get()
    }

    /// When the last one came.
    pub(super) fn last(&self) -> Option<Instant> {
        self.seen.last.get()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, seen: Rc<Seen>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(spawn_local(answer(stream, Rc::clone(&seen)))),
            Err(error) => tracing::debug!(%error, "a connection to the sink was not accepted"),
        }
    }
}

/// Answers the requests of one connection. Whatever breaks it ends it; the server tries again.
async fn answer(mut stream: TcpStream, seen: Rc<Seen>) {
    let mut buffer = Vec::with_capacity(4 << 10);
    loop {
        match parse_request(&buffer) {
            Ok(Some(length)) if buffer.len() >= length => {
                buffer.drain(..length);
                seen.count.set(seen.count.get() + 1);
                seen.last.set(Some(Instant::now()));
                if stream.write_all(ANSWER).await.is_err() {
                    return;
                }
            }
            Ok(_) if buffer.len() <= REQUEST_BYTES_MAX => match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            Ok(_) | Err(_) => return,
        }
    }
}
