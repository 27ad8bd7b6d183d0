//! Reads requests: bodies, members, query strings and cursors.

pub(super) mod body;
pub(super) mod body_memory;
pub(super) mod cloud_attributes;
pub(super) mod cloud_identity;
pub(super) mod cloudevents;
pub(super) mod cursor;
pub(super) mod declare;
pub(super) mod fields;
pub(super) mod gzip;
pub(super) mod kinds;
pub(super) mod lists;
pub(super) mod media_type;
pub(super) mod presence;
pub(super) mod query;
pub(super) mod wire;
