//! The HTTP front: the nine routes of the product, over actix-web. The only importer of it, with the application that
//! runs the server.
//!
//! A request passes [`edge`] (request id, headers, problems, figures), then its handler: who is calling (`auth`), may they
//! (`routes` says what each route needs), how often (`limit`), what do they want (`wire`), and from there the committer or
//! the state. Nothing here blocks an actix worker: hashing has threads of its own, pages of the inbox are read elsewhere.

mod api;
mod auth;
mod body;
mod cloudevents;
mod cors;
mod edge;
mod error;
mod events;
mod hashing;
mod inbox;
mod keys;
mod limit;
mod ops;
pub mod receiver;
mod routes;
mod webhook;
mod wire;

use std::net::TcpListener;

use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};

pub use api::{Api, ApiParts, Health};

/// The server on a listener that is bound already; it runs when it is awaited.
///
/// # Errors
/// When the listener cannot be used.
pub fn server(api: web::Data<Api>, listener: TcpListener) -> std::io::Result<actix_web::dev::Server> {
    let settings = api.parts.config.server.clone();
    let app = move || {
        App::new()
            .app_data(web::Data::clone(&api))
            .wrap(from_fn(cors::cors))
            .wrap(from_fn(edge::edge))
            .configure(routes::configure)
    };
    let mut server = HttpServer::new(app)
        .keep_alive(settings.keep_alive)
        .client_request_timeout(settings.client_timeout)
        .max_connections(settings.max_connections)
        .shutdown_timeout((settings.shutdown / 2).as_secs().max(1))
        .disable_signals();
    if settings.workers > 0 {
        server = server.workers(settings.workers);
    }
    Ok(server.listen(listener)?.run())
}
