//! The receiver of webhooks: answers 200 and records which events came, with which payload.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::harness::PATIENCE;

/// Listens until the lab ends, as do its threads.
pub(crate) struct Receiver {
    address: SocketAddr,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    by_id: Mutex<BTreeMap<String, Got>>,
    came: Condvar,
    /// When set, requests are answered 503 and not recorded.
    refuses: AtomicBool,
    /// When requests are refused, each `accepted_of`-th is accepted all the same; 0 means none.
    accepted_of: AtomicU64,
    /// The number of bytes of a refusal's body.
    refusal_bytes: AtomicUsize,
    /// Each `refused_of`-th request is answered 500 and not recorded; 0 means none.
    refused_of: AtomicU64,
    requests: AtomicU64,
    /// True while the power is off; see [`crate::ledger::Ledger::dark`].
    dark: Arc<AtomicBool>,
}

/// All requests for one event id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Got {
    pub(crate) requests: u64,
    /// The time of the first request.
    first_at: Option<Instant>,
    /// The payload of the first request. Later payloads are only compared.
    pub(crate) payload: String,
    pub(crate) changed: bool,
    /// True if the first request came after the power was cut.
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

    /// Starts a receiver that knows when the power is off.
    pub(crate) fn start_with(dark: Arc<AtomicBool>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log { dark, ..Log::default() });
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let log = Arc::clone(&shared);
                // The server is often killed in mid-request, so errors are no fault.
                std::thread::spawn(move || drop(serve(stream, &log)));
            }
        });
        Self { address, log }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// From now on requests are answered 503 if `refuses` is true.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.log.refuses.store(refuses, Ordering::SeqCst);
    }

    /// From now on requests are answered 503 with a body of this many bytes, except each
    /// `accepted_of`-th.
    pub(crate) fn refuse_most(&self, bytes: usize, accepted_of: u64) {
        self.log.refusal_bytes.store(bytes, Ordering::SeqCst);
        self.log.accepted_of.store(accepted_of, Ordering::SeqCst);
        self.refuse(true);
    }

    /// From now on each `of`-th request is answered 500; 0 means none.
    pub(crate) fn refuse_each(&self, of: u64) {
        self.log.refused_of.store(of, Ordering::SeqCst);
    }

    /// Returns all recorded requests, by event id.
    pub(crate) fn log(&self) -> BTreeMap<String, Got> {
        self.log.by_id.lock().unwrap().clone()
    }

    /// Waits for the first request with this id. Returns its time.
    pub(crate) fn arrival_of(&self, id: &str) -> Instant {
        let arrival = |log: &BTreeMap<String, Got>| log.get(id).and_then(|got| got.first_at);
        let log = self.log.by_id.lock().unwrap();
        let (log, _) =
            self.log.came.wait_timeout_while(log, PATIENCE, |log| arrival(log).is_none()).unwrap();
        arrival(&log).expect("it comes some time")
    }

    /// Returns how many of the ids have no request yet.
    pub(crate) fn missing<'a>(&self, ids: impl Iterator<Item = &'a String>) -> usize {
        let log = self.log.by_id.lock().unwrap();
        ids.filter(|id| !log.contains_key(*id)).count()
    }
}

const ACCEPTED: &str = "200 OK";

impl Log {
    fn status(&self) -> &'static str {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let accepted_of = self.accepted_of.load(Ordering::SeqCst);
        let is_accepted = accepted_of > 0 && number.is_multiple_of(accepted_of);
        match self.refused_of.load(Ordering::SeqCst) {
            _ if self.refuses.load(Ordering::SeqCst) && !is_accepted => "503 Service Unavailable",
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
        let of_refusal = log.refusal_bytes.load(Ordering::SeqCst);
        let length = if status == ACCEPTED { 0 } else { of_refusal };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
        answers.write_all(&[head.as_bytes(), &vec![b'e'; length]].concat())?;
    }
}

fn note(log: &Log, id: String, body: &[u8]) {
    let payload = serde_json::from_slice::<Envelope<'_>>(body).unwrap().data.get();
    let in_the_dark = log.dark.load(Ordering::SeqCst);
    let (came, mut log) = (&log.came, log.by_id.lock().unwrap());
    let got = log.entry(id).or_default();
    got.requests += 1;
    if got.requests == 1 {
        payload.clone_into(&mut got.payload);
        got.in_the_dark = in_the_dark;
        got.first_at = Some(Instant::now());
    }
    got.changed |= got.payload != payload;
    came.notify_all();
}
