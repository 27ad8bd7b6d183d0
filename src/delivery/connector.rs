//! Connections to receivers: the name is looked up and every address judged, then TCP, then TLS. Called by the sender when
//! it has no connection to use again. Nothing is connected to that was not judged here. Knows nothing of requests.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::resolver;
use crate::rules::egress::{EgressRules, Target};

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

/// More than so many bytes came, and they were no whole TLS handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLong(pub(super) usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} KiB", self.0 >> 10)
    }
}

impl Error for TooLong {}

pub(super) type Failure = Box<dyn Error + Send + Sync>;

impl Connector {
    /// A connection to the target; what becomes known of it on the way is in `steps`, also when it does not come about.
    pub(super) async fn connect(
        &self,
        target: &Target,
        is_secure: bool,
        steps: &mut Steps,
    ) -> Result<Box<dyn Stream>, Failure> {
        timeout(self.timeout, self.connect_untimed(target, is_secure, steps)).await.map_err(|_elapsed| TooLate)?
    }

    async fn connect_untimed(
        &self,
        target: &Target,
        is_secure: bool,
        steps: &mut Steps,
    ) -> Result<Box<dyn Stream>, Failure> {
        let begun = Instant::now();
        let addresses = resolver::resolve(&self.rules, &target.host, target.port).await?;
        steps.dns = target.address.is_none().then(|| begun.elapsed());
        steps.address = addresses.first().copied();
        steps.addresses.clone_from(&addresses);
        steps.step = Step::Connect;
        let begun = Instant::now();
        let (address, tcp) = first_to_answer(&addresses).await?;
        tcp.set_nodelay(true)?;
        steps.connect = Some(begun.elapsed());
        steps.address = Some(address);
        steps.step = if is_secure { Step::Secure } else { Step::Use };
        let stream: Box<dyn Stream> =
            if is_secure { self.secure(&target.host, tcp, steps).await? } else { Box::new(tcp) };
        steps.ready_at = Some(Instant::now());
        Ok(stream)
    }

    /// TLS.
    async fn secure(&self, host: &str, tcp: TcpStream, steps: &mut Steps) -> Result<Box<dyn Stream>, Failure> {
        let begun = Instant::now();
        let name = ServerName::try_from(host.to_owned())?;
        let bounded = Wire { stream: tcp, read_bytes: 0, read_bytes_max: HANDSHAKE_BYTES_MAX };
        let mut secured = self.tls.connect(name, bounded).await?;
        steps.tls = Some(begun.elapsed());
        steps.step = Step::Use;
        // From here on what comes out of it is bounded by whoever reads it.
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

/// TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection of which no more is read than a TLS handshake may have.
struct Wire<S> {
    stream: S,
    /// Read since something was written last: of one flight.
    read_bytes: usize,
    read_bytes_max: usize,
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
