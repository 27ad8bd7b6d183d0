//! The routes: one file for each resource.

pub(super) mod admin;
pub(super) mod archive;
pub(super) mod archived_events;
pub(super) mod audit;
pub(super) mod dead_letters;
pub(super) mod deliveries;
pub(super) mod docs;
pub(super) mod endpoint_settings;
pub(super) mod endpoints;
pub(super) mod event_history;
pub(super) mod events;
pub(super) mod hooks;
pub(super) mod inbox;
pub(super) mod keys;
mod new_key;
pub(super) mod ops;
pub(super) mod orgs;
pub(super) mod replays;
pub(super) mod stored_event;
pub(super) mod tail;
pub(super) mod webhook;
pub(super) mod whoami;
