//! The server: actix's workers behind one listener. Each worker watches its own connections.

use std::future::ready;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Protocol};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use actix_web::{App, web};

use crate::config::Server as Settings;
use crate::http::edge::blocking::BLOCKING_THREADS_PER_WORKER;
use crate::http::edge::connection::{Connection, SEND_BUFFER_BYTES};
use crate::http::edge::connections::{Connections, Patience};
use crate::http::edge::eviction::holder_of;
use crate::http::routes;
use crate::http::shared::Api;

/// Maximum time for closing a connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of a worker's connections that are spare, at most an eighth of all. A newcomer is
/// accepted on a spare connection, and another connection is closed instead.
const SPARE_CONNECTIONS_MAX: usize = 32;
/// Bytes of answers that a connection buffers before writing.
const WRITE_BUFFER_BYTES: usize = 16 << 10;

/// Returns the number of threads that serve requests.
pub fn workers(settings: &Settings) -> usize {
    match settings.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// Makes the server on this listener. The server runs when the result is awaited.
///
/// # Errors
/// If the listener cannot be used.
pub fn server(api: web::Data<Api>, listener: TcpListener) -> io::Result<actix_web::dev::Server> {
    let settings = api.config.server.clone();
    let address = listener.local_addr()?;
    let patience = patience(&settings);
    let server = actix_web::dev::Server::build();
    let stopping = server.graceful_shutdown_signal();
    let server = server
        .workers(workers(&settings))
        .worker_max_blocking_threads(BLOCKING_THREADS_PER_WORKER)
        .max_concurrent_connections(patience.places)
        .disable_signals()
        .shutdown_timeout(settings.shutdown.as_secs())
        .listen("api", listener, move || {
            // This runs once for each worker, on the worker's thread.
            let connections = Connections::new(patience, Arc::clone(&api.bounds.answers));
            let (api, known) = (web::Data::clone(&api), web::Data::clone(&api));
            let app = App::new().configure(move |services| routes::register(services, &api));
            let app = map_config(app.into_factory(), move |()| AppConfig::default());
            let stopping = stopping.clone();
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                // `Connections` has its own timeouts: actix times only the first head, and no idle
                // time after the first byte.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                .h1_write_buffer_size(WRITE_BUFFER_BYTES)
                .local_addr(address)
                .on_connect_ext(|connection: &Connection, known| {
                    // Every request needs the handle of its connection.
                    known.insert(connection.handle());
                })
                .finish(app);
            let accept = move |stream| ready(Ok(accept(stream, &connections, &known)));
            fn_service(accept).and_then(http)
        })?;
    Ok(server.run())
}

/// Takes a slot for a new connection, and gives the connection to actix.
fn accept(
    stream: TcpStream,
    connections: &Rc<Connections>,
    api: &Api,
) -> (Connection, Protocol, Option<SocketAddr>) {
    prepare(&stream);
    let holder = holder(&stream, api);
    let connection = Connection::new(stream, connections.accept(holder));
    let peer = connection.peer();
    (connection, Protocol::Http1, peer)
}

/// Returns the limits on the connections of each worker.
fn patience(settings: &Settings) -> Patience {
    let connections = settings.max_connections.div_ceil(workers(settings));
    let spare = (connections / 8).clamp(1, SPARE_CONNECTIONS_MAX);
    let connections_max = connections.saturating_sub(spare).max(1);
    Patience {
        connections_max,
        places: connections_max + spare,
        head: settings.client_timeout,
        idle: settings.keep_alive,
        stall: settings.write_timeout,
    }
}

/// Returns the holder of a connection, or `None` if the peer is a trusted proxy or is gone.
fn holder(stream: &TcpStream, api: &Api) -> Option<IpAddr> {
    let peer = stream.peer_addr().ok()?.ip().to_canonical();
    let is_proxy = api.settings.get().trusted_proxies.iter().any(|network| network.contains(&peer));
    (!is_proxy).then(|| holder_of(peer))
}

/// Sets the socket options of a connection, unless the connection has ended already.
fn prepare(stream: &TcpStream) {
    let set = stream.set_nodelay(true);
    let set = set.and_then(|()| {
        Ok(rustix::net::sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES)?)
    });
    if let Err(error) = set {
        tracing::debug!(%error, "a connection could not be prepared");
    }
}
