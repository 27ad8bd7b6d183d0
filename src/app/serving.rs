//! The HTTP server of the application, on a thread of its own.

use std::io;
use std::net::TcpListener;
use std::time::Instant;

use actix_web::web::Data;
use tokio::runtime::Runtime;

use crate::base::threads::{Thread, spawn_critical};
use crate::http::{self, Api};

/// The running HTTP server.
pub(super) struct Serving {
    thread: Thread,
    handle: actix_web::dev::ServerHandle,
}

impl Serving {
    /// Runs actix on a thread of its own, so that the caller's thread stays free.
    pub(super) fn start(api: Data<Api>, listener: TcpListener) -> io::Result<Self> {
        let (started, handle) = std::sync::mpsc::sync_channel(1);
        let thread = spawn_critical("http", move || {
            actix_web::rt::System::new().block_on(async move {
                let server = http::server(api, listener);
                let (server, handle) = match server {
                    Ok(server) => {
                        let handle = server.handle();
                        (Some(server), Ok(handle))
                    }
                    Err(error) => (None, Err(error)),
                };
                if started.send(handle).is_err() {
                    return;
                }
                if let Some(server) = server
                    && let Err(error) = server.await
                {
                    tracing::error!(%error, "the HTTP server failed");
                }
            });
        })?;
        let handle = handle
            .recv()
            .map_err(|_gone| io::Error::other("the HTTP thread ended at its start"))??;
        Ok(Self { thread, handle })
    }

    /// Finishes the requests under way. Returns true if the thread ended in time.
    pub(super) fn stop(self, runtime: &Runtime, deadline: Instant) -> bool {
        runtime.spawn(self.handle.stop(true));
        self.thread.join_until(deadline)
    }
}
