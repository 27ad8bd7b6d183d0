//! The rows: their layout, their tables, and the index of dedup ids.

pub(super) mod dedup;
pub(crate) mod row;
pub(crate) mod row_bytes;
pub(crate) mod row_key;
pub(crate) mod schema;
pub(crate) mod state;
pub(crate) mod table;
