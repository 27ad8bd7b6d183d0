//! Connections to receivers: the name is looked up and every address judged, then TCP, then TLS. Called by the sender's
//! HTTP client when it has no connection to use again. Nothing is connected to that was not judged here, and no more is
//! read from a connection than one answer may have. Knows nothing of requests.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::Uri;
use hyper::http::uri::Scheme;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::resolver;
use crate::rules::egress::EgressRules;

#[cfg(test)]
#[path = "connector_tests.rs"]
pub(super) mod tests;

/// How long one address is tried alone before the next is tried beside it (RFC 8305, 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const TRIED_MAX: usize = 16;
/// Receivers whose TLS sessions are kept to be resumed. A hostile one can make each of its eight tickets 64 KiB long.
const SESSIONS_KEPT: usize = 32;
/// Most that is read of a TLS handshake before we have something to say: several times a long chain of certificates.
const HANDSHAKE_BYTES_MAX: usize = 32 << 10;
/// TLS as webhooks are sent with it: the system's CA store, and HTTP/1.1 in it.
///
/// # Errors
/// When there is no CA store.
pub(super) fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut tls = rustls::ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls.resumption = Resumption::in_memory_sessions(SESSIONS_KEPT);
    Ok(tls)
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector {
    /// What may be reached.
    pub(super) rules: Arc<EgressRules>,
    /// How it is secured.
    pub(super) tls: TlsConnector,
    /// Longest time for the lookup, TCP and TLS together.
    pub(super) timeout: Duration,
    /// Most that is read for one HTTP/1 answer, head and body, in bytes.
    pub(super) answer_bytes_max: usize,
}

/// There was no connection in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no connection in time")
    }
}

impl Error for TooLate {}

/// More than so many bytes came, and they were no whole answer, or no whole TLS handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLong(pub(super) usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} KiB", self.0 >> 10)
    }
}

impl Error for TooLong {}

type Failure = Box<dyn Error + Send + Sync>;

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Wire>, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        // Asked here and not in the future: the client may go on connecting in another task.
        let trace = TRACE.try_with(Trace::clone).unwrap_or_default();
        Box::pin(async move {
            let connecting = connector.connect(&uri, trace);
            timeout(connector.timeout, connecting).await.map_err(|_elapsed| TooLate)?.map(TokioIo::new)
        })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri, trace: Trace) -> Result<Wire, Failure> {
        let is_secure = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let begun = Instant::now();
        let addresses = resolver::resolve(&self.rules, host, port).await?;
        let is_name = host.parse::<IpAddr>().is_err();
        trace.note(|steps| {
            steps.dns = is_name.then(|| begun.elapsed());
            steps.address = addresses.first().copied();
            steps.addresses.clone_from(&addresses);
            steps.step = Step::Connect;
        });
        let begun = Instant::now();
        let (address, tcp) = first_to_answer(&addresses).await?;
        tcp.set_nodelay(true)?;
        trace.note(|steps| {
            steps.connect = Some(begun.elapsed());
            steps.address = Some(address);
            steps.step = if is_secure { Step::Secure } else { Step::Use };
        });
        let stream: Box<dyn Stream> = if is_secure { self.secure(host, tcp, &trace).await? } else { Box::new(tcp) };
        trace.note(|steps| steps.ready_at = Some(Instant::now()));
        Ok(Wire { stream, trace, read_bytes: 0, read_bytes_max: self.answer_bytes_max })
    }

    /// TLS.
    async fn secure(&self, host: &str, tcp: TcpStream, trace: &Trace) -> Result<Box<dyn Stream>, Failure> {
        let begun = Instant::now();
        let name = ServerName::try_from(host.to_owned())?;
        let read_bytes_max = HANDSHAKE_BYTES_MAX;
        let bounded = Wire { stream: tcp, trace: trace.clone(), read_bytes: 0, read_bytes_max };
        let mut secured = self.tls.connect(name, bounded).await?;
        trace.note(|steps| {
            steps.tls = Some(begun.elapsed());
            steps.step = Step::Use;
        });
        // From here on what comes out of it is counted.
        secured.get_mut().0.read_bytes_max = usize::MAX;
        Ok(Box::new(secured))
    }
}

/// The first of the addresses that takes a connection. They are tried one after the other, each with a head start; one
/// that is refused passes the turn on at once.
async fn first_to_answer(addresses: &[SocketAddr]) -> io::Result<(SocketAddr, TcpStream)> {
    let connect = async |address| Ok((address, TcpStream::connect(address).await?));
    let mut waiting = by_turns(addresses).into_iter().take(TRIED_MAX);
    let mut trying = FuturesUnordered::new();
    let mut refusal = None;
    loop {
        trying.extend(waiting.next().map(connect));
        match timeout(HEAD_START, trying.next()).await {
            Ok(Some(Ok(connected))) => return Ok(connected),
            Ok(Some(Err(error))) => refusal = refusal.or(Some(error)),
            Ok(None) => return Err(refusal.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())),
            Err(_elapsed) => {}
        }
    }
}

/// IPv4 and IPv6 by turns, beginning with what the system puts first (RFC 8305, 4).
fn by_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == is_v6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::with_capacity(addresses.len());
    while turns.len() < addresses.len() {
        turns.extend(first.next());
        turns.extend(second.next());
    }
    turns
}

/// How far a connection came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Step {
    /// The name is looked up.
    #[default]
    Resolve,
    /// TCP.
    Connect,
    /// TLS.
    Secure,
    /// It stands.
    Use,
}

/// What is known of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    /// What was begun last.
    pub(super) step: Step,
    /// All addresses there were.
    pub(super) addresses: Vec<SocketAddr>,
    /// The one that is connected to; until there is one, the first that is tried.
    pub(super) address: Option<SocketAddr>,
    /// How long the lookup took; none for a URL with an address.
    pub(super) dns: Option<Duration>,
    /// How long TCP took.
    pub(super) connect: Option<Duration>,
    /// How long TLS took.
    pub(super) tls: Option<Duration>,
    /// Since when it stands.
    pub(super) ready_at: Option<Instant>,
}

/// What is known of a connection, written by the connector and read by the attempt that it was made for.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace(Arc<Mutex<Steps>>);

tokio::task_local! {
    /// The trace of the attempt that is being made.
    pub(super) static TRACE: Trace;
}

impl Trace {
    /// What is known by now.
    pub(super) fn steps(&self) -> Steps {
        self.lock().clone()
    }

    /// Whether both are of one connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn note(&self, change: impl FnOnce(&mut Steps)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection of which no more is read than one answer may have.
pub(super) struct Wire<S = Box<dyn Stream>> {
    stream: S,
    trace: Trace,
    /// Read since something was written last: of one answer; of one flight, if it is a TLS handshake.
    read_bytes: usize,
    read_bytes_max: usize,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.trace.clone())
    }
}

impl<S: Stream> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut wire.stream).poll_read(cx, buf))?;
        wire.read_bytes = wire.read_bytes.saturating_add(buf.filled().len().saturating_sub(before));
        let is_too_long = wire.read_bytes > wire.read_bytes_max;
        Poll::Ready(if is_too_long { Err(io::Error::other(TooLong(wire.read_bytes_max))) } else { Ok(()) })
    }
}

impl<S: Stream> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        wire.read_bytes = 0;
        Pin::new(&mut wire.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        wire.read_bytes = 0;
        Pin::new(&mut wire.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
