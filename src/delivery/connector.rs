//! Connections to receivers: looks up the name, judges every address, then connects TCP and TLS.
//! Called by the sender when the pool has no connection. Every address is judged here before a
//! connection is made. Knows nothing of requests.

use std::error::Error;
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
use tokio_rustls::client::TlsStream;

use super::lookups::{Asked, Lookups, NoLookup};
use super::resolver;
use crate::base::peek::{Unread, peek};
use crate::base::unsent;
use crate::model::id::OrgNo;
use crate::rules::egress::{EgressRules, Target};

#[cfg(test)]
#[path = "connector_tests.rs"]
pub(super) mod tests;

/// How long an address is tried alone before the next address is tried in parallel (RFC 8305, 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// Maximum number of addresses tried for a name.
const TRIED_MAX: usize = 16;
/// Maximum number of receivers whose TLS sessions are kept for resumption. A hostile receiver can
/// make each of its eight tickets 64 KiB long.
const SESSIONS_KEPT: usize = 32;
/// Maximum size of a flight of the TLS handshake, in bytes: several times a long chain of
/// certificates.
const HANDSHAKE_BYTES_MAX: usize = 32 << 10;

/// Makes the TLS configuration of webhooks: the system's CA store, and HTTP/1.1 as the only
/// protocol.
///
/// # Errors
/// The system has no CA store.
pub(super) fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut tls = rustls::ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls.resumption = Resumption::in_memory_sessions(SESSIONS_KEPT);
    Ok(tls)
}

/// Establishes connections to receivers.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) lookups: Arc<Lookups>,
    /// The addresses that may be reached.
    pub(super) rules: Arc<EgressRules>,
    /// The TLS configuration, with its resumable sessions.
    pub(super) tls: TlsConnector,
    /// Maximum time for lookup, TCP and TLS together, from the beginning of the lookup.
    pub(super) timeout: Duration,
}

/// The error for a connection that took too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no connection in time")]
pub(super) struct TooLate;

/// The error for a TLS flight above the limit; holds the limit in bytes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("more than {} KiB", .0 >> 10)]
pub(super) struct TooLong(pub(super) usize);

pub(super) type Failure = Box<dyn Error + Send + Sync>;

impl Connector {
    /// Waits until the lookup of the target's name begins, if it needs one: at most for this time,
    /// and at most for the time to connect.
    ///
    /// # Errors
    /// The lookup did not begin, so there is nothing to connect to.
    pub(super) async fn begin(
        &self,
        org: OrgNo,
        target: &Target,
        within: Duration,
    ) -> Result<Option<Asked>, NoLookup> {
        resolver::begin(&self.lookups, org, &target.host, within.min(self.timeout)).await
    }

    /// Connects to the target, whose lookup has begun. `trace` shows the progress, also after a
    /// failure.
    pub(super) async fn connect(
        &self,
        target: (&Target, Option<Asked>),
        is_secure: bool,
        trace: &mut ConnectionTrace,
    ) -> Result<Box<dyn Stream>, Failure> {
        timeout(self.timeout, self.connect_untimed(target, is_secure, trace))
            .await
            .map_err(|_elapsed| TooLate)?
    }

    async fn connect_untimed(
        &self,
        (target, asked): (&Target, Option<Asked>),
        is_secure: bool,
        trace: &mut ConnectionTrace,
    ) -> Result<Box<dyn Stream>, Failure> {
        let begun = Instant::now();
        let place = (target.host.as_str(), target.port);
        let addresses = resolver::resolve(&self.rules, place, asked).await?;
        trace.dns = target.address.is_none().then(|| begun.elapsed());
        trace.address = addresses.first().copied();
        trace.addresses.clone_from(&addresses);
        trace.step = Step::Connect;
        let begun = Instant::now();
        let (address, tcp) = first_to_answer(&addresses).await?;
        tcp.set_nodelay(true)?;
        trace.connect = Some(begun.elapsed());
        trace.address = Some(address);
        trace.step = if is_secure { Step::Secure } else { Step::Use };
        let stream: Box<dyn Stream> = if is_secure {
            self.secure(&target.host, tcp, trace).await?
        } else {
            Box::new(Wire { stream: tcp, read_bytes: 0, read_bytes_max: usize::MAX })
        };
        trace.ready_at = Some(Instant::now());
        Ok(stream)
    }

    /// Makes the TLS handshake over a TCP connection.
    async fn secure(
        &self,
        host: &str,
        tcp: TcpStream,
        trace: &mut ConnectionTrace,
    ) -> Result<Box<dyn Stream>, Failure> {
        let begun = Instant::now();
        let name = ServerName::try_from(host.to_owned())?;
        let bounded = Wire { stream: tcp, read_bytes: 0, read_bytes_max: HANDSHAKE_BYTES_MAX };
        let mut secured = self.tls.connect(name, bounded).await?;
        trace.tls = Some(begun.elapsed());
        trace.step = Step::Use;
        // After the handshake the callers limit their own reads.
        secured.get_mut().0.read_bytes_max = usize::MAX;
        Ok(Box::new(secured))
    }
}

/// Returns the first address that accepts a connection. Each address has a head start before the
/// next; after a refusal the next is tried at once.
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
            Ok(None) => {
                return Err(refusal.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
            }
            Err(_elapsed) => {}
        }
    }
}

/// Alternates between IPv4 and IPv6, beginning with the family of the system's first address (RFC
/// 8305, 4).
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

/// The stage of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Step {
    /// The name lookup is in progress.
    #[default]
    Resolve,
    /// The TCP connection is in progress.
    Connect,
    /// The TLS handshake is in progress.
    Secure,
    /// The connection is established.
    Use,
}

/// The trace of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionTrace {
    /// The stage begun last.
    pub(super) step: Step,
    /// All addresses of the target.
    pub(super) addresses: Vec<SocketAddr>,
    /// The connected address; before a connection, the first address to try.
    pub(super) address: Option<SocketAddr>,
    /// Duration of the lookup; `None` for a URL with an address.
    pub(super) dns: Option<Duration>,
    /// Duration of the TCP connection, once established.
    pub(super) connect: Option<Duration>,
    /// Duration of the TLS handshake, once finished.
    pub(super) tls: Option<Duration>,
    /// When the connection was established.
    pub(super) ready_at: Option<Instant>,
}

/// A TCP connection, or TLS over TCP.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Returns true if bytes, the end or an error of the TCP connection were not read yet. Asks the
    /// system and not the runtime.
    fn has_unread(&self) -> bool;
    /// Makes the kernel forget the bytes that the receiver has not taken, when the connection is
    /// closed: the attempt is over.
    fn give_up_unsent(&self);
}

impl Stream for TcpStream {
    fn has_unread(&self) -> bool {
        peek(self) != Unread::Nothing
    }

    fn give_up_unsent(&self) {
        let given_up = unsent::prepare_to_close(self).and_then(|()| {
            if unsent::is_taken(self) {
                unsent::limit_after_close(self)
            } else {
                unsent::give_up(self)
            }
        });
        if let Err(error) = given_up {
            tracing::debug!(%error, "a connection could not be prepared for its end");
        }
    }
}

impl<S: Stream> Stream for Wire<S> {
    fn has_unread(&self) -> bool {
        self.stream.has_unread()
    }

    fn give_up_unsent(&self) {
        self.stream.give_up_unsent();
    }
}

impl<S: Stream> Drop for Wire<S> {
    fn drop(&mut self) {
        self.stream.give_up_unsent();
    }
}

impl<S: Stream> Stream for TlsStream<Wire<S>> {
    fn has_unread(&self) -> bool {
        self.get_ref().0.has_unread()
    }

    fn give_up_unsent(&self) {
        self.get_ref().0.give_up_unsent();
    }
}

/// A TCP connection that limits each flight of a TLS handshake, and leaves no bytes behind.
struct Wire<S: Stream> {
    stream: S,
    /// Bytes read since the last write, which is one flight.
    read_bytes: usize,
    read_bytes_max: usize,
}

impl<S: Stream> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut wire.stream).poll_read(cx, buf))?;
        wire.read_bytes = wire.read_bytes.saturating_add(buf.filled().len().saturating_sub(before));
        let is_too_long = wire.read_bytes > wire.read_bytes_max;
        Poll::Ready(if is_too_long {
            Err(io::Error::other(TooLong(wire.read_bytes_max)))
        } else {
            Ok(())
        })
    }
}

impl<S: Stream> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
