//! The API as an OpenAPI 3.1 document. Each resource declares its operations beside its handlers
//! (`operation`), the structs of bodies and answers describe themselves (`schemas`), and the
//! document is made from the table of routes (`document`).

pub(super) mod document;
pub(super) mod links;
pub(super) mod operation;
pub(super) mod schemas;
pub(super) mod texts;
pub(super) mod webhooks;
pub(super) mod yaml;
