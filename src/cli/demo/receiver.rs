//! A webhook receiver as a consumer would write it: takes posts and keeps them, so that their
//! signatures can be verified. The demo and the tests use this receiver; the server itself never
//! receives webhooks.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use crate::base::library_errors::os_words;
use crate::base::threads::{Signal, Thread, spawn_critical};
use crate::cli::output::eprint;
use crate::rules::signature::{Signed, Untrusted, verify};

/// Maximum age of a signed timestamp, in seconds (Standard Webhooks: five minutes).
pub const TOLERANCE_S: u64 = 300;

/// A request that the receiver got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Value of the header `webhook-id`.
    pub id: String,
    /// Value of the header `webhook-timestamp`, in seconds since 1970.
    pub timestamp: String,
    /// Value of the header `webhook-signature`.
    pub signature: String,
    /// Value of the header `Triggerd-Attempt`.
    pub attempt: String,
    /// All headers; names are in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Received {
    /// Returns the first header with this name; `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Verifies the signature as a consumer does, with the endpoint's key bytes.
    ///
    /// # Errors
    /// The reason why the request must not be trusted.
    pub fn verify(&self, key: &[u8], now_s: u64) -> Result<(), Untrusted> {
        let Self { id, timestamp, signature, body, .. } = self;
        verify(key, &Signed { id, timestamp, signature, body }, now_s, TOLERANCE_S)
    }
}

#[derive(Default)]
struct Inner {
    /// Statuses of the next answers; later answers are 200.
    answers: Mutex<VecDeque<u16>>,
    received: Mutex<Vec<Received>>,
    came: Signal,
}

/// A receiver on its own port of the loopback address.
pub struct Receiver {
    address: SocketAddr,
    inner: Arc<Inner>,
    handle: actix_web::dev::ServerHandle,
    thread: Thread,
}

impl Receiver {
    /// Starts a receiver on a thread of its own.
    ///
    /// # Errors
    /// If no port or thread is available.
    pub fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner::default());
        let shared = web::Data::from(Arc::clone(&inner));
        let (started, handle) = std::sync::mpsc::sync_channel(1);
        let thread = spawn_critical("receiver", move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    let limit = web::PayloadConfig::new(1 << 20);
                    App::new()
                        .app_data(shared.clone())
                        .app_data(limit)
                        .default_service(web::post().to(receive))
                };
                let server = HttpServer::new(app).workers(1).disable_signals().listen(listener);
                let server = match server {
                    Ok(server) => server.shutdown_timeout(0).run(),
                    Err(error) => return drop(started.send(Err(error))),
                };
                if started.send(Ok(server.handle())).is_ok()
                    && let Err(error) = server.await
                {
                    eprint(&format!("triggerd: the receiver failed: {}", os_words(&error)));
                }
            });
        })?;
        let handle = handle
            .recv()
            .map_err(|_gone| std::io::Error::other("the receiver ended at its start"))??;
        Ok(Self { address, inner, handle, thread })
    }

    /// Returns the URL to which events are posted.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers the next requests with these statuses, then with 200 again.
    pub fn answer_next(&self, statuses: impl IntoIterator<Item = u16>) {
        self.inner.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(statuses);
    }

    /// Returns all requests that came so far.
    pub fn received(&self) -> Vec<Received> {
        self.inner.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `count` requests came, or `at_most` is over, and returns all requests so far.
    pub fn wait_for(&self, count: usize, at_most: Duration) -> Vec<Received> {
        let deadline = Instant::now() + at_most;
        loop {
            let received = self.received();
            let left = deadline.saturating_duration_since(Instant::now());
            if received.len() >= count || left.is_zero() {
                return received;
            }
            self.inner.came.wait(left);
        }
    }

    /// Stops the receiver and waits for its thread.
    pub fn stop(self) {
        // The call alone stops the server; the future only waits for the end.
        drop(self.handle.stop(false));
        self.thread.join_until(Instant::now() + Duration::from_secs(5));
    }
}

async fn receive(request: HttpRequest, body: web::Bytes, inner: web::Data<Inner>) -> HttpResponse {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let headers: Vec<(String, String)> = request.headers().iter().map(text).collect();
    let header = |name: &str| {
        let found = headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let received = Received {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        attempt: header("triggerd-attempt"),
        body: body.to_vec(),
        headers,
    };
    inner.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
    inner.came.notify();
    let status =
        inner.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(200);
    HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap_or_default()).finish()
}
