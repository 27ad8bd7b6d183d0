//! Everything that each request goes through, whatever its route: connections, the caller, limits,
//! and answers on their way out.

pub(super) mod answers;
pub(super) mod audit;
pub(super) mod auth;
pub(super) mod blocking;
pub(super) mod call;
pub(super) mod client_address;
pub(super) mod connection;
pub(super) mod connection_state;
pub(super) mod connections;
pub(super) mod cors;
pub(super) mod eviction;
pub(super) mod framing;
pub(super) mod handle;
pub(super) mod health;
pub(super) mod limit;
pub(super) mod middleware;
pub(super) mod own_answers;
pub(super) mod refused_admin;
pub(super) mod request_id;
pub(super) mod route;
pub(super) mod scrapes;
pub(super) mod server;
pub(super) mod verify;
