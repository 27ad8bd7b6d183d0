//! The server: actix's workers behind one listener, each with the connections that it watches itself.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Protocol};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use actix_web::{App, web};

use super::connection::Connection;
use super::connections::{Connections, Patience};
use super::{Api, configure};
use crate::config::Server as Settings;

/// Threads of each worker for what blocks: reading the journal, reading large bodies.
pub(super) const BLOCKING_THREADS_PER_WORKER: usize = 8;
/// How long a connection that is to be closed may take to take leave.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Of a worker's connections so many, an eighth at most, are there to accept newcomers for whom others go.
const SPARE_CONNECTIONS_MAX: usize = 32;
/// Bytes that the kernel holds of what a peer has not taken yet; it takes twice the memory for them. By itself it would take
/// megabytes, which no bound of ours sees.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// Bytes of answers that a connection holds before it writes them.
const WRITE_BUFFER_BYTES: usize = 16 << 10;

/// Threads that serve requests.
pub fn workers(settings: &Settings) -> usize {
    match settings.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// The server on this listener; it runs when it is awaited.
///
/// # Errors
/// When the listener cannot be used.
pub fn server(api: web::Data<Api>, listener: TcpListener) -> io::Result<actix_web::dev::Server> {
    let settings = api.config.server.clone();
    let workers = workers(&settings);
    let address = listener.local_addr()?;
    let connections = settings.max_connections.div_ceil(workers);
    let spare = (connections / 8).clamp(1, SPARE_CONNECTIONS_MAX);
    let patience = Patience {
        connections_max: connections.saturating_sub(spare).max(1),
        head: settings.client_timeout,
        idle: settings.keep_alive,
        stall: settings.write_timeout,
    };
    let server = actix_web::dev::Server::build();
    let stopping = server.graceful_shutdown_signal();
    let server = server
        .workers(workers)
        .worker_max_blocking_threads(BLOCKING_THREADS_PER_WORKER)
        .max_concurrent_connections(patience.connections_max + spare)
        .disable_signals()
        .shutdown_timeout(settings.shutdown.as_secs())
        .listen("api", listener, move || {
            // Once for each worker, on its thread.
            let connections = Connections::new(patience, Arc::clone(&api.answers));
            let api = web::Data::clone(&api);
            let app = App::new().configure(move |services| configure(services, &api));
            let app = map_config(app.into_factory(), move |()| AppConfig::default());
            let stopping = stopping.clone();
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                // Ours: actix measures the first head only, and no idle time once a byte has come.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(DISCONNECT_TIMEOUT)
                .h1_write_buffer_size(WRITE_BUFFER_BYTES)
                .local_addr(address)
                .on_connect_ext(|connection: &Connection, known| {
                    // Every request needs it.
                    known.insert(connection.handle());
                })
                .finish(app);
            let accept = move |stream: TcpStream| {
                prepare(&stream);
                let connection = connections.accept(stream);
                async move {
                    let peer = connection.peer();
                    Ok((connection, Protocol::Http1, peer))
                }
            };
            fn_service(accept).and_then(http)
        })?;
    Ok(server.run())
}

/// Sets what a connection needs, unless it has ended already.
fn prepare(stream: &TcpStream) {
    let set = stream.set_nodelay(true);
    let set = set.and_then(|()| Ok(rustix::net::sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES)?));
    if let Err(error) = set {
        tracing::debug!(%error, "a connection could not be prepared");
    }
}
