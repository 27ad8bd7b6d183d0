//! A webhook receiver as a consumer would write one: takes posts, verifies their signatures, keeps what came. For the
//! demo and the tests; the server itself never receives webhooks.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use crate::base::threads::{Signal, Thread, spawn_critical};
use crate::rules::signature::{Signed, Untrusted, verify};

/// How old a signed timestamp may be, in seconds (Standard Webhooks: five minutes).
pub const TOLERANCE_S: u64 = 300;

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`, seconds since 1970.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signature: String,
    /// `Triggerd-Attempt`.
    pub attempt: String,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Received {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Checks the signature as a consumer does, with the endpoint's key bytes.
    ///
    /// # Errors
    /// Why it must not be trusted.
    pub fn verify(&self, key: &[u8], now_s: u64) -> Result<(), Untrusted> {
        let Self { id, timestamp, signature, body, .. } = self;
        verify(key, &Signed { id, timestamp, signature, body }, now_s, TOLERANCE_S)
    }
}

#[derive(Default)]
struct Inner {
    /// Statuses for the next requests; then 200.
    answers: Mutex<VecDeque<u16>>,
    received: Mutex<Vec<Received>>,
    came: Signal,
}

/// A receiver on a port of its own on the loopback address.
pub struct Receiver {
    address: SocketAddr,
    inner: Arc<Inner>,
    handle: actix_web::dev::ServerHandle,
    thread: Thread,
}

impl Receiver {
    /// Starts one.
    ///
    /// # Errors
    /// When there is no port or thread to be had.
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
                    App::new().app_data(shared.clone()).app_data(limit).default_service(web::post().to(receive))
                };
                let server = HttpServer::new(app).workers(1).disable_signals().listen(listener);
                let server = match server {
                    Ok(server) => server.shutdown_timeout(0).run(),
                    Err(error) => return drop(started.send(Err(error))),
                };
                if started.send(Ok(server.handle())).is_ok()
                    && let Err(error) = server.await
                {
                    tracing::error!(%error, "the receiver failed");
                }
            });
        })?;
        let handle = handle.recv().map_err(|_gone| std::io::Error::other("the receiver ended at its start"))??;
        Ok(Self { address, inner, handle, thread })
    }

    /// Where events are to be posted.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers the next requests with these statuses, then with 200 again.
    pub fn answer_next(&self, statuses: impl IntoIterator<Item = u16>) {
        self.inner.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(statuses);
    }

    /// All that came so far.
    pub fn received(&self) -> Vec<Received> {
        self.inner.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many requests came, at most so long, and gives them.
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

    /// Ends it.
    pub fn stop(self) {
        // Asking is enough: the future only waits for it.
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
    let status = inner.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(200);
    HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap_or_default()).finish()
}
