//! The consumer that events are pushed to: answers 200 and writes down which events it got, with which payload.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::value::RawValue;

/// Ends with the lab; its threads wait for connections until then.
pub(crate) struct Receiver {
    address: SocketAddr,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    by_id: Mutex<BTreeMap<String, Got>>,
    /// Answer 503 and write nothing down.
    refuses: AtomicBool,
    /// Answer each of so many requests 500 and write nothing down; 0: none.
    refused_of: AtomicU64,
    requests: AtomicU64,
    /// See [`crate::ledger::Ledger::dark`].
    dark: Arc<AtomicBool>,
}

/// What came for one event id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Got {
    pub(crate) requests: u64,
    /// The payload of the first request; of the others only that it was the same.
    pub(crate) payload: String,
    pub(crate) changed: bool,
    /// The first request came after the power was cut.
    pub(crate) in_the_dark: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        Self::start_with(Arc::default())
    }

    /// One that knows when the power is off.
    pub(crate) fn start_with(dark: Arc<AtomicBool>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log { dark, ..Log::default() });
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let log = Arc::clone(&shared);
                // The server is killed in mid-request all the time.
                std::thread::spawn(move || drop(serve(stream, &log)));
            }
        });
        Self { address, log }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Whether it answers 503 from now on.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.log.refuses.store(refuses, Ordering::SeqCst);
    }

    /// From now on each `of`-th request is answered 500; 0: none.
    pub(crate) fn refuse_each(&self, of: u64) {
        self.log.refused_of.store(of, Ordering::SeqCst);
    }

    /// All that came, by event id.
    pub(crate) fn log(&self) -> BTreeMap<String, Got> {
        self.log.by_id.lock().unwrap().clone()
    }

    /// How many of these ids did not come yet.
    pub(crate) fn missing<'a>(&self, ids: impl Iterator<Item = &'a String>) -> usize {
        let log = self.log.by_id.lock().unwrap();
        ids.filter(|id| !log.contains_key(*id)).count()
    }
}

const ACCEPTED: &str = "200 OK";

impl Log {
    fn status(&self) -> &'static str {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        match self.refused_of.load(Ordering::SeqCst) {
            _ if self.refuses.load(Ordering::SeqCst) => "503 Service Unavailable",
            of if of > 0 && number.is_multiple_of(of) => "500 Internal Server Error",
            _ => ACCEPTED,
        }
    }
}

fn serve(stream: TcpStream, log: &Log) -> std::io::Result<()> {
    let mut answers = stream.try_clone()?;
    let mut requests = BufReader::new(stream);
    loop {
        let (mut id, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.trim().split_once(": ") else {
                if line.trim().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "webhook-id" => value.clone_into(&mut id),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        requests.read_exact(&mut body)?;
        let status = log.status();
        if status == ACCEPTED {
            note(log, id, &body);
        }
        answers.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
    }
}

fn note(log: &Log, id: String, body: &[u8]) {
    let payload = serde_json::from_slice::<Envelope<'_>>(body).unwrap().data.get();
    let in_the_dark = log.dark.load(Ordering::SeqCst);
    let mut log = log.by_id.lock().unwrap();
    let got = log.entry(id).or_default();
    got.requests += 1;
    if got.requests == 1 {
        payload.clone_into(&mut got.payload);
        got.in_the_dark = in_the_dark;
    }
    got.changed |= got.payload != payload;
}
