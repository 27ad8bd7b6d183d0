//! The endpoint for deliveries during a measurement: answers 200 to every request and counts. Runs
//! on the thread of the load and does as little as possible, because it shares the machine with the
//! server.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};

use super::connection::parse_request;
use crate::base::library_errors::os_words;
use crate::cli::output::eprint;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
/// Maximum size of a request, in bytes: an event of maximum size with its envelope.
const REQUEST_BYTES_MAX: usize = 10 << 20;

/// A webhook endpoint on a free port of the loopback address.
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

    /// Number of requests so far.
    pub(super) fn count(&self) -> u64 {
        self.seen.count.get()
    }

    /// The time of the last request.
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
    let mut is_told = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(spawn_local(answer(stream, Rc::clone(&seen)))),
            Err(error) => {
                if !is_told {
                    let words = os_words(&error);
                    eprint(&format!("triggerd: a delivery was not accepted: {words}"));
                }
                is_told = true;
            }
        }
    }
}

/// Answers the requests of one connection. On any error the connection ends, and the server tries
/// again.
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
            Ok(_) if buffer.len() <= REQUEST_BYTES_MAX => {
                match stream.read_buf(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
            Ok(_) | Err(_) => return,
        }
    }
}
